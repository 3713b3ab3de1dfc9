"""Server-sent events, as providers stream them: the `data` of each event (WHATWG HTML, section 9.2).

Our own reader, because an event has a bound here (httpx-sse reads a line without an end for ever) and because each
token of every stream passes through: a third of the processor time of reading one went into the layers around lines.
What providers do not use is left out: names, ids, retry times, and a carriage return alone as the end of a line.
"""

import codecs
from collections.abc import AsyncGenerator, AsyncIterator

from council.core.errors import NotTheProtocol

EVENT_BYTES = 16_000_000


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of each event, its lines joined, as UTF-8 that nobody has checked. An event cut off at the end is lost.

    Raises NotTheProtocol for an event of more than EVENT_BYTES.
    """
    begun: list[bytes] = []  # a line that has no end yet
    data: list[bytes] = []
    size = 0
    start = True
    async for chunk in chunks:
        if _is_one_line(chunk) and not (begun or data):
            yield chunk[6:-2].removesuffix(b"\r")
            start, size = False, 0
            continue
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join([*begun, lines[0]])
            begun.clear()
            if start:
                lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
                start = False
        if rest:
            begun.append(rest)
        size += len(chunk)
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" ").removesuffix(b"\r"))
            elif not line or line == b"\r":
                if data:
                    yield b"\n".join(data)
                    data.clear()
                size = 0
        if size > EVENT_BYTES:
            raise NotTheProtocol("The stream holds an event that has no end.")


def _is_one_line(chunk: bytes) -> bool:
    """Whether it is one event, whole and of one line. Most of them are, and this is quicker than to split it."""
    return chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") and chunk.find(b"\n") == len(chunk) - 2
