"""A server for mail: SMTP as RFC 5321 has it, without TLS, that takes, refuses, waits or hangs up as the test says."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["MailServer"]


class _Handler(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.server.connections += 1
        if self.server.hangs_up:
            return
        self._say("220 mail.example.org ready")
        while line := self.rfile.readline():
            word = line.split(b" ")[0].strip().upper()
            if word == b"QUIT":
                self._say("221 bye")
                return
            self._answer(word, line.decode().strip())

    def _answer(self, word: bytes, line: str) -> None:
        if word in (b"EHLO", b"HELO"):
            self.server.greetings.append(line)
            self._say("250 mail.example.org")
        elif word == b"RCPT":
            answer = self.server.answers.pop(0) if self.server.answers else "250 taken"
            if answer.startswith("250"):
                self.server.recipients.append(line)
            self._say(answer)
        elif word == b"DATA":
            self._say("354 go on")
            lines: list[bytes] = []
            while (said := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(said)
            self.server.mails.append(b"".join(lines))
            self._say("250 taken")
        elif word in (b"MAIL", b"RSET", b"NOOP"):
            self._say("250 fine")
        else:
            self._say("502 not known here")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class MailServer(socketserver.ThreadingTCPServer):
    """`answers` are given to the next recipients."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mails: list[bytes] = []
        self.recipients: list[str] = []
        self.greetings: list[str] = []
        self.answers: list[str] = []
        self.connections = 0
        self.hangs_up = False

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @contextmanager
    def running(self) -> Iterator[MailServer]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()
