import pytest
from asgiref.sync import async_to_sync

from council.core.errors import NotTheProtocol
from council.providers import sse


def read(*chunks: bytes) -> list[str]:
    async def stream():
        for chunk in chunks:
            yield chunk

    async def collect():
        return [each.decode() async for each in sse.events(stream())]

    return async_to_sync(collect)()


def test_it_reads_the_data_of_each_event():
    assert read(b"data: one\n\ndata:two\n\ndata:  three\n\n") == ["one", "two", " three"]


def test_lines_may_end_in_either_way():
    assert read(b"data: one\r\n\r\ndata: two\r\n\r\n") == ["one", "two"]
    assert read(b"data: one\r\n\n", b"data: two\n\n") == ["one", "two"]


def test_an_event_of_its_own_chunk_does_not_end_one_that_has_begun():
    assert read(b"data: on", b"data: e\n\n") == ["ondata: e"]
    assert read(b"data: one\n", b"data: two\n\n") == ["one\ntwo"]


def test_the_lines_of_one_event_belong_together():
    assert read(b"data: one\ndata: two\n\n") == ["one\ntwo"]


def test_comments_and_other_fields_are_passed_over():
    assert read(b": ping\n\nevent: x\nid: 1\nretry: 3\ndata: one\n: in between\ndata: two\n\n") == ["one\ntwo"]


@pytest.mark.parametrize("size", range(1, 9))
def test_it_does_not_matter_where_the_bytes_are_cut(size):
    whole = "data: naïve — 日本 🎉\r\n\r\ndata: two\n\n".encode()
    assert read(*(whole[at : at + size] for at in range(0, len(whole), size))) == ["naïve — 日本 🎉", "two"]


def test_a_byte_order_mark_is_not_seen():
    assert read(b"\xef\xbb\xbfdata: a\n\n") == ["a"]
    assert read(b"\xef", b"\xbb\xbfda", b"ta: a\n\n") == ["a"]


def test_an_event_that_was_cut_off_is_lost():
    assert read(b"data: one\n\ndata: two\n") == ["one"]


def test_an_event_without_an_end_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(sse, "EVENT_BYTES", 1000)
    with pytest.raises(NotTheProtocol, match="no end"):
        read(*[b"x" * 100] * 20)
    with pytest.raises(NotTheProtocol):
        read(*[b"data: x\n" * 10] * 20)
    assert len(read(*[b"data: x\n\n" * 50] * 20)) == 1000
    assert read(*[b": ping\n\n"] * 500, b"data: x\n\n") == ["x"]
