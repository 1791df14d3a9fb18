"""What to do about a connection to Kafka that fails: address, TLS and SASL have different remedies."""

from typing import Final

from confluent_kafka import KafkaError

__all__ = ["connection_advice"]

_LOGIN: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001  confluent-kafka exports it under this name
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    }
)


def connection_advice(error: KafkaError) -> str:
    """Return what to fix, given the first error that librdkafka reported of its connections.

    Some errors of TLS have the code of a lost connection, and can be recognized by their text alone.
    """
    code, text = error.code(), error.str()
    if code in _LOGIN:
        return "SASL failed: fix sasl.mechanism, sasl.username and sasl.password in K2_KAFKA_CONFIG"
    if "PLAINTEXT broker listener" in text or "SSL connection closed by peer" in text:
        return "TLS failed, and that listener may have none: fix security.protocol in K2_KAFKA_CONFIG, or the port"
    if code == KafkaError._SSL or "SSL" in text:  # noqa: SLF001  as above
        return "TLS failed: fix ssl.ca.location and the other ssl properties in K2_KAFKA_CONFIG, or the host name"
    if code == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  as above
        # No connection failed: each was accepted and then closed, as by a listener of another protocol.
        return "it closes connections without an answer: set security.protocol in K2_KAFKA_CONFIG to its listener's"
    if code == KafkaError._RESOLVE:  # noqa: SLF001  as above
        return "fix the host name in K2_BOOTSTRAP_SERVERS"
    return "start the broker, or fix K2_BOOTSTRAP_SERVERS"
