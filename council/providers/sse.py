"""Server-sent events, as providers stream them: the `data` of each event (WHATWG HTML, section 9.2).

Our own reader, because an event has a bound here (httpx-sse reads a line without an end for ever) and because each
token of every stream passes through: a third of the processor time of reading one went into the layers around lines.
What providers do not use is left out: names, ids, retry times, and a carriage return alone as the end of a line.
"""

import codecs
from collections.abc import AsyncGenerator, AsyncIterator

from council.core.errors import NotTheProtocol

EVENT_CHARACTERS = 16_000_000


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The data of each event, its lines joined. What is no UTF-8 becomes U+FFFD; an event cut off at the end is lost.

    Raises NotTheProtocol for an event of more than EVENT_CHARACTERS.
    """
    decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
    begun: list[str] = []  # a line that has no end yet
    data: list[str] = []
    size = 0
    async for chunk in chunks:
        *lines, rest = decode(chunk).split("\n")
        if lines:
            lines[0] = "".join([*begun, lines[0]])
            begun.clear()
        begun.append(rest)
        size += len(chunk)
        for line in lines:
            if line.startswith("data:"):
                data.append(line[5:].removeprefix(" ").removesuffix("\r"))
            elif not line or line == "\r":
                if data:
                    yield "\n".join(data)
                    data.clear()
                size = 0
        if size > EVENT_CHARACTERS:
            raise NotTheProtocol("The stream holds an event that has no end.")
