# SPDX-License-Identifier: GPL-2.0-only
"""gRPC without a library: calls of a server on a Unix socket."""
import socket

DATA, HEADERS, RESET, SETTINGS, GOAWAY = 0, 1, 3, 4, 7


def number(value):
    """Return a number as protobuf encodes it."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def encode(message):
    """Return the bytes of a message: numbers of fields, with numbers, texts, lists or messages as values."""
    out = b""
    for field, values in message.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                out += number(field << 3) + number(value)
            else:
                value = value.encode() if isinstance(value, str) else encode(value)
                out += number(field << 3 | 2) + number(len(value)) + value
    return out


def decode(data, path=""):
    """Return the fields of a message: PATH=VALUE. Fields with unprintable bytes are messages."""
    found = []
    while data:
        numbers = []
        while len(numbers) < 2:
            length = next(at for at, byte in enumerate(data) if byte < 128) + 1
            numbers.append(sum((byte & 127) << 7 * at for at, byte in enumerate(data[:length])))
            data = data[length:]
        (tag, value), name = numbers, f"{path}{numbers[0] >> 3}"
        if tag & 7 == 0:
            found.append(f"{name}={value}")
            continue
        part, data = data[:value], data[value:]
        if all(32 <= byte < 127 for byte in part.removesuffix(b"\n")):
            found.append(f"{name}={part.decode().rstrip()}")
        else:
            found += decode(part, name + ".")
    return found


def frame(kind, flags, stream, data):
    """Return a frame of HTTP/2."""
    return len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + data


def call(address, method, request=None, metadata=()):
    """Return the fields of the response to a call by their numbers in its .proto file."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", f"/{method}"), (":authority", "localhost"),
              ("content-type", "application/grpc"), ("te", "trailers"), *metadata]
    block = b"".join(b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in fields)
    request, body = encode(request or {}), b""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(600)
        client.connect(str(address))
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 4, 1, block)
                       + frame(DATA, 1, 1, b"\0" + len(request).to_bytes(4, "big") + request))
        stream = client.makefile("rb")
        kind = None
        while head := stream.read(9):
            kind, flags, data = head[3], head[4], stream.read(int.from_bytes(head[:3], "big"))
            if kind == SETTINGS and not flags & 1:
                client.sendall(frame(SETTINGS, 1, 0, b""))
            if kind == DATA:
                body += data
            if kind in (RESET, GOAWAY) or kind == HEADERS and flags & 1:
                break
    # The trailer with the status is compressed. A call that fails has no response.
    whole = len(body) >= 5 and len(body) == 5 + int.from_bytes(body[1:5], "big")
    assert whole and kind != RESET, f"{method} failed, see the log of the server"
    return decode(body[5:])


def value(fields, path):
    """Return the value of a field of a response."""
    found = [field.partition("=")[2] for field in fields if field.startswith(f"{path}=")]
    assert found, f"no {path}: {fields}"
    return found[0]
