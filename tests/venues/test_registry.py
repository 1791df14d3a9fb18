"""The registry of venues: each name leads to the venue of that name."""

from k2.venues import VENUES


def test_each_name_leads_to_its_venue() -> None:
    """The module and the constant are written as text, so only a lookup finds a wrong one."""
    assert [VENUES[name].name for name in VENUES] == [*VENUES]
