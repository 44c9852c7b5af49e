"""Ways to damage bytes: what a full disk, a broken download or a bad sector leaves."""

from __future__ import annotations

from hypothesis import strategies as st


def damaged(content: bytes) -> st.SearchStrategy[tuple[str, bytes]]:
    """Kind of damage, and the bytes: cut off, empty, one bit flipped, a stretch of zeros, longer, noise."""
    places = st.integers(0, len(content) - 1)

    def flip(place: int, bit: int) -> bytes:
        return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]

    def zero(place: int, length: int) -> bytes:
        return (content[:place] + bytes(length) + content[place + length :])[: len(content)]

    return st.one_of(
        places.map(lambda place: ("truncated", content[:place])),
        st.just(("empty", b"")),
        st.builds(flip, places, st.integers(0, 7)).map(lambda made: ("bit flipped", made)),
        st.builds(zero, places, st.integers(1, 512)).map(lambda made: ("zeroed", made)),
        st.binary(min_size=1, max_size=64).map(lambda more: ("oversized", content + more)),
        st.binary(max_size=256).map(lambda noise: ("noise", noise)),
    )
