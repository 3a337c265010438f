"""Tells the bench how far a program has come: one HTTP request over the socket beside this file."""

import http.client
import os
import socket

BELL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bell.sock")


class _Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(BELL)


def tell(what):
    """Returns when the bench has answered."""
    connection = _Connection("bench")
    connection.request("GET", "/" + what)
    connection.getresponse().read()
    connection.close()
