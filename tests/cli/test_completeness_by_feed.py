"""`k2 completeness --by feed`: what it prints, and what it refuses."""

from collections.abc import Callable

from typer.testing import Result

from k2.cli.console import to_json
from k2.ops.settings import Settings
from k2.query.feeds import by_feed
from tests.query.feed_tables import write_feeds

K2 = Callable[..., Result]


def test_the_report_by_feed(settings: Settings, k2: K2) -> None:
    """Prints two tables, a sentence for each feed, and the rows as JSON; refuses what does not go together."""
    write_feeds(settings)
    result = k2("completeness", "--by", "feed")
    assert (result.exit_code, "Feeds by symbol" in result.stdout) == (0, True)
    assert "feed B: 9 brought, 2 lost that another has, 1 lost by all" in result.stderr
    assert k2("completeness", "--by", "feed", "--json").stdout.strip() == to_json(by_feed(settings))
    wrong = k2("completeness", "--by", "feed", "--heat")
    assert (wrong.exit_code, "--by feed goes with neither --as-of" in wrong.stderr) == (2, True)
    assert "no feed has brought a trade" in k2("completeness", "--by", "feed", "--exchange", "kraken").stderr
