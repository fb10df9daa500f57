"""Headers come back as they were written."""

from datetime import UTC, datetime
from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st

from securegan.security.envelope.header import BODIES, ENVELOPES, FORMS, LATEST, Facts, Header, Stanza

IDS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=60)
TIMES = st.integers(0, LATEST).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
FACTS = st.builds(Facts, st.sampled_from(ENVELOPES), IDS, TIMES, st.integers(0, (1 << 63) - 1), st.sampled_from(FORMS))
STANZAS = st.sampled_from([1, 2]).flatmap(
    lambda kind: st.builds(Stanza, st.just(kind), st.binary(min_size=BODIES[kind], max_size=BODIES[kind]))
)
HEADERS = st.builds(
    lambda facts, stanzas, key: Header.make(facts, stanzas, key),
    FACTS,
    st.lists(STANZAS, min_size=1, max_size=16),
    st.binary(min_size=32, max_size=32),
)


@given(HEADERS)
def test_headers_come_back(header: Header) -> None:
    source = BytesIO(header.encode() + b"the payload")
    assert Header.read(source) == header
    assert source.read() == b"the payload"
