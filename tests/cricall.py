#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Call Kubernetes's container runtime interface without a library for gRPC: cricall.py SOCKET SERVICE/METHOD [REQUEST].

REQUEST is a dictionary of Python: numbers of fields, with numbers, texts, lists or dictionaries as values. Prints the
fields of the response: PATH=VALUE. See api.proto of k8s.io/cri-api for the numbers.
"""

import ast
import socket
import sys

DATA, HEADERS, RESET, SETTINGS, GOAWAY = 0, 1, 3, 4, 7


def number(value):
    """Return a number as protobuf encodes it."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def encode(message):
    """Return the bytes of a message."""
    out = b""
    for field, values in message.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                out += number(field << 3) + number(value)
            else:
                value = value.encode() if isinstance(value, str) else encode(value)
                out += number(field << 3 | 2) + number(len(value)) + value
    return out


def show(data, path):
    """Print the fields of a message. Fields with unprintable bytes are messages."""
    while data:
        numbers = []
        while len(numbers) < 2:
            end = next(at for at, byte in enumerate(data) if byte < 128) + 1
            numbers.append(sum((byte & 127) << 7 * at for at, byte in enumerate(data[:end])))
            data = data[end:]
        (tag, value), name = numbers, f"{path}{numbers[0] >> 3}"
        if tag & 7 == 0:
            print(f"{name}={value}")
            continue
        part, data = data[:value], data[value:]
        if all(32 <= byte < 127 for byte in part.removesuffix(b"\n")):
            print(f"{name}={part.decode().rstrip()}")
        else:
            show(part, name + ".")


def frame(kind, flags, stream, data):
    """Return a frame of HTTP/2."""
    return len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + data


def call(path, method, request):
    """Return the response to a call, or end the program."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", f"/runtime.v1.{method}"), (":authority", "localhost"),
              ("content-type", "application/grpc"), ("te", "trailers")]
    block = b"".join(b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in fields)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(120)
    client.connect(path)
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 4, 1, block)
                   + frame(DATA, 1, 1, b"\0" + len(request).to_bytes(4, "big") + request))
    stream, body = client.makefile("rb"), b""
    while head := stream.read(9):
        kind, flags, data = head[3], head[4], stream.read(int.from_bytes(head[:3], "big"))
        if kind == SETTINGS and not flags & 1:
            client.sendall(frame(SETTINGS, 1, 0, b""))
        if kind == DATA:
            body += data
        if kind in (RESET, GOAWAY) or kind == HEADERS and flags & 1:
            break
    # The trailer with the status is compressed. A call that fails has no response.
    return body[5:] if body else sys.exit(f"{method} failed, see the log of containerd")


show(call(sys.argv[1], sys.argv[2], encode(ast.literal_eval((sys.argv[3:] or ["{}"])[0]))), "")
