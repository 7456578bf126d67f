"""The three kinds of failure: the user's, the machine's, ours. The C++ core throws the same three, with the same words.

Every message follows one formula: "[where] what was required; what came; what to do".
"""


class VortexError(Exception):
    """What all failures of Vortex have in common: the four parts of their message."""

    def __init__(self, where: str, required: str, came: str = "", todo: str = ""):
        self.where, self.required, self.came, self.todo = where, required, came, todo
        super().__init__(where, required, came, todo)

    def __str__(self) -> str:
        return f"[{self.where}] " + "; ".join(part for part in (self.required, self.came, self.todo) if part)


class UserError(VortexError, ValueError):
    """A flow, a file or an argument that cannot be accepted."""


class MachineError(VortexError, RuntimeError):
    """No memory, no disk space, no network, no device, an instruction set that is missing."""


class InternalError(VortexError, RuntimeError):
    """An invariant of Vortex does not hold. `where` is the source file and line."""


def unknown_name(where: str, required: str, name: str, names, otherwise: str) -> UserError:
    """Of a name that is not among `names`: what to do is the nearest of them, or `otherwise` where none is near."""
    from vortex_attention import _core  # which itself throws the errors above

    near = _core.nearest_name(name, list(names))
    return UserError(where, required, f'"{name}"', f'did you mean "{near}"?' if near else otherwise)
