"""How providers are spoken to: `chat` knows the protocol, `calling` deadlines and the retry. Neither knows Django."""
