"""Model files mapped into memory: nothing is read before it is used, and what is not used costs no memory."""

import mmap
import os
import stat

from vortex_attention.errors import MachineError, UserError


def map_file(path: str, what: str, least: int, folder_todo: str = "give the path of the file in it") -> mmap.mmap:
    """what: "a GGUF model file"; least: bytes that the smallest one has. folder_todo: what to do with a folder."""
    where = os.path.basename(path) or path
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):  # opening one waits for its writer
            raise UserError(where, "a model file", f"{path} is a pipe", "write it to a file")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < least:
                raise UserError(where, what, f"it has fewer than {least} bytes", "fetch it again")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise UserError(where, "a model file", f"there is none at {path}", "check the path") from None
    except IsADirectoryError:
        raise UserError(where, "a model file", f"{path} is a folder", folder_todo) from None
    except OSError as error:
        raise MachineError(where, "a model file that can be read", str(error), "check its permissions") from None
