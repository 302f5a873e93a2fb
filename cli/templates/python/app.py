"""How full the filesystems of a node are, by df(1)."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.disk import (
    FilesystemUsage,
    UsageError_Denied,
    UsageError_Failed,
    UsageError_NotFound,
)
from wit_world.imports import commands

COLUMNS = "--output=source,size,used,avail,target"


class Disk(exports.Disk):
    """The interface `disk` of wit/world.wit."""

    def usage(self, path: str) -> FilesystemUsage:
        command = commands.Command("df", ["-B1", COLUMNS, path], None, None)
        try:
            output = commands.run(command)
        except Err as error:
            raise Err(explain(error.value)) from None
        if output.status != commands.ExitStatus_Code(0):
            message = output.stderr.decode(errors="replace").strip()
            if "No such file or directory" in message:
                raise Err(UsageError_NotFound(message))
            raise Err(UsageError_Failed(f"df: {output.status}: {message}"))
        return parse(output.stdout.decode(errors="replace"))


def explain(error: commands.Error):
    match error:
        case commands.Error_Denied(why):
            return UsageError_Denied(why)
        case commands.Error_NotFound(what):
            return UsageError_NotFound(what)
        case other:
            return UsageError_Failed(f"df did not run: {other}")


def parse(text: str) -> FilesystemUsage:
    """Read a headline and a line such as `/dev/sda1 1000 400 550 /srv`. Names may hold spaces."""
    lines = text.splitlines()
    line = lines[1] if len(lines) > 1 else ""
    words = line.split()
    # The first three numbers in a row are the sizes: what is before and behind them are names.
    for at in range(1, len(words) - 3):
        sizes = words[at : at + 3]
        if all(word.isdecimal() for word in sizes):
            size, used, available = map(int, sizes)
            return FilesystemUsage(
                " ".join(words[:at]), size, used, available, " ".join(words[at + 3 :])
            )
    raise Err(UsageError_Failed(f"df printed `{line}`, which is not understood"))
