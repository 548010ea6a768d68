"""A page of docs/walks, typed block by block.

Blocks are taken in their order: `python FILE` and `yaml FILE` are saved under that name, `bash` is run in a folder of
its own with what earlier blocks exported, `console` is what a reader is told to expect.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "walks"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Walk:
    """A page typed in ``folder``: ``outputs`` has what each bash block said, ``failed`` what did not end with 0.

    Args:
        changes: text of the page -> what stands in its place, and how often it must be there.
        bin: a folder whose commands go before those of this environment.
    """

    def __init__(
        self, name: str, folder: Path, changes: dict[str, tuple[str, int]] | None = None, bin: Path | None = None
    ) -> None:
        self.page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        for old, (new, times) in (changes or {}).items():
            assert self.page.count(old) == times, f"{old!r} stands {self.page.count(old)} times in {name}.md"
            self.page = self.page.replace(old, new)
        self.folder, self.state, self.logs = folder / "walk", folder / "state", folder / "logs"
        for made in (self.folder, self.logs):
            made.mkdir(parents=True, exist_ok=True)
        self.state.write_text("")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "PIPPIN_"))}
        path = os.pathsep.join(map(str, filter(None, (bin, Path(sys.executable).parent, os.environ["PATH"]))))
        own = {"PATH": path, "PIPPIN_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.env = kept | own
        self.outputs: dict[str, str] = {}
        self.expected = [text for kind, _, text in BLOCK.findall(self.page) if kind == "console"]
        self.started: list[int] = []

    def go(self, skip: str = "") -> None:
        """Save every file and run every block but those with ``skip`` in them."""
        for kind, name, text in BLOCK.findall(self.page):
            if name:
                place = self.folder / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text, encoding="utf-8")
            elif kind == "bash" and not (skip and skip in text):
                self.outputs[text] = self.run(text)

    def run(self, text: str) -> str:
        """One block, with what earlier ones exported. It writes into a file: what it leaves running keeps that open."""
        script = f"trap 'echo \"$? $BASH_COMMAND\" >> {self.logs / 'failed'}' ERR\n. {self.state}\n{text}\n"
        log = self.logs / f"{len(self.outputs)}.txt"
        with log.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"{script}export -p > {self.state}"], cwd=self.folder, env=self.env, stdout=file,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            self.started.append(process.pid)
            process.wait(timeout=1800)
        return log.read_text(encoding="utf-8")

    def close(self) -> None:
        """End what blocks left running."""
        for group in self.started:
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue

    @property
    def failed(self) -> list[str]:
        file = self.logs / "failed"
        return file.read_text().splitlines() if file.exists() else []

    def said(self, command: str) -> str:
        """The output of the one block with ``command`` in it."""
        (output,) = (output for text, output in self.outputs.items() if command in text)
        return output

    def json(self, name: str):
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def told_so(self) -> None:
        """Every line that a reader is told to expect was said, white space aside."""
        everything = "\n".join(self.outputs.values())
        said = {" ".join(line.split()) for line in everything.splitlines()}
        for line in "".join(self.expected).splitlines():
            assert " ".join(line.split()) in said, f"{line!r} was not said:\n{everything}"


def stranger(made: Walk) -> None:
    assert made.failed == []
    first = made.said("compare world/base ./by_trl").splitlines()[0]
    assert re.match(r"(V2 is (better|worse)|cannot tell): [+-]?\d\.\d{3} \[", first)
    plain, stated = made.json("two/results.json"), made.json("declared/results.json")
    assert plain["confounds"] == [] and "Confounds: none" in made.said("compare two.yaml")
    silent = {row["arm"]: set(row["fields"]) for row in plain["not_declared"]}
    assert {"masking", "truncation", "data (demonstrations)"} <= silent["trl"] & silent["plain"]
    assert "data (preferences)" in silent["plain"] - silent["trl"]  # TRL's card says that the method is sft
    assert {c["field"]: c["arms"] for c in stated["confounds"]} == {
        "masking": {"plain": "questions and answers", "trl": "answers"},
        "truncation": {"plain": "keep start, 512 tokens", "trl": "keep start, 128 tokens"},
    }
    assert stated["pooled"] == plain["pooled"] and stated["scope"] == "these runs"
    assert [claim["scope"] for claim in stated["claims"]] == ["these runs"] * len(stated["claims"])
    assert "Not declared" in (made.folder / "two" / "report.html").read_text(encoding="utf-8")
