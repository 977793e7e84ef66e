"""Values of modules -> `ModuleValue`, without the module: opaque but complete. Pure; called by `decode`.

Since 4.0 (type 7) each part that a module saves is preceded by an opcode, so that the end is known without it. Type 6
is of release candidates of 4.0, has no opcodes, and no server loads it. Source: src/rdb.c rdbLoadCheckModuleValue.
"""

from __future__ import annotations

from cachekeep.codec.dump.errors import DumpError
from cachekeep.codec.dump.reader import Reader
from cachekeep.codec.dump.values import ModuleValue

END, SIGNED, UNSIGNED, FLOAT, DOUBLE, STRING = range(6)
RAW = -1  # not an opcode: all that follows the id of a value of type 6


def module(reader: Reader) -> ModuleValue:
    """Type 7."""
    module_id = reader.length()
    parts: list[tuple[int, int | bytes]] = []
    while (opcode := reader.length()) != END:
        if opcode == SIGNED:
            number = reader.length()
            parts.append((opcode, number - (1 << 64) if number >> 63 else number))
        elif opcode == UNSIGNED:
            parts.append((opcode, reader.length()))
        elif opcode == FLOAT:
            parts.append((opcode, reader.take(4)))
        elif opcode == DOUBLE:
            parts.append((opcode, reader.take(8)))
        elif opcode == STRING:
            parts.append((opcode, reader.string()))
        else:
            raise DumpError(f"no part of a module's value has the opcode {opcode}")
    return ModuleValue(module_id, tuple(parts))


def module_before_opcodes(reader: Reader) -> ModuleValue:
    """Type 6."""
    return ModuleValue(reader.length(), ((RAW, reader.take(reader.end - reader.at)),))
