"""`pippin` as a command that starts at once: a process that has imported everything, and forks for each call.

python app_warm.py ADDRESS
"""

import json
import os
import socket
import sys
from pathlib import Path

CLIENT = """#!{python} -IS
import json, os, socket, sys
said = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as one:
    one.connect({address!r})
    socket.send_fds(one, [len(said).to_bytes(8, "big")], [0, 1, 2])
    one.sendall(said)
    sys.exit(one.recv(1)[0])
"""


def write_client(folder: Path, address: str) -> None:
    """An executable ``pippin`` in ``folder`` that has its call run by the process that listens at ``address``."""
    folder.mkdir()
    client = folder / "pippin"
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)


def serve(address: str) -> None:
    """Run calls one after the other, each in a fork of its own, until this process is ended."""
    import scipy.stats  # noqa: F401
    import torch  # noqa: F401 - so that no fork has to
    import transformers  # noqa: F401

    from pippin.app import cli
    from pippin.compare import analyse, decide, report, two  # noqa: F401

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        while True:
            one, _ = listening.accept()
            size, descriptors, *_ = socket.recv_fds(one, 8, 3)
            with one.makefile("rb") as told:
                arguments, folder, environment = json.loads(told.read(int.from_bytes(size, "big")))
            child = os.fork()
            if not child:
                for place, descriptor in enumerate(descriptors):
                    os.dup2(descriptor, place)
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environment)
                code = cli.run(arguments)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            for descriptor in descriptors:
                os.close(descriptor)
            one.send(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]))
            one.close()


if __name__ == "__main__":
    serve(sys.argv[1])
