"""Dead letters: messages set aside, as lines of JSON in files."""

from connectors.dead_letters.letters import Letters
from connectors.dead_letters.lock import check_folder, check_free

__all__ = ["Letters", "check_folder", "check_free"]
