"""The check of the arrows finds what it is for: each case plants one violation into a small checkout of its own."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("check_arrows", ROOT / "tools" / "check_arrows.py")
check_arrows = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check_arrows)

CLEAN = {
    "src/base/CMakeLists.txt": "vortex_room(base LIBRARIES Threads::Threads)\n",
    "src/base/text.h": "#include <string>\n#include <sys/types.h>\n",
    "src/base/text.cpp": '#include "base/text.h"\n#include <vortex/error.h>\n',
    "src/ir/CMakeLists.txt": "vortex_room(ir DEPENDS base LIBRARIES json)\n",
    "src/ir/program.h": '#include <nlohmann/json.hpp>\n#include "base/text.h"\n',
    "src/kv/CMakeLists.txt": "vortex_room(kv\n  DEPENDS base)\n",
    "src/kv/pool.h": '#include "base/text.h"\n',
    "src/kernels/CMakeLists.txt": "vortex_room(kernels DEPENDS base)\n",
    "src/kernels/cuda/device.cuh": "// nothing\n",
    "src/kernels/cuda/step.cuh": '#include "device.cuh"\n#include "step_arguments.h"\n',
    "src/kernels/cuda/step_arguments.h": "// nothing\n",
    "src/attention/CMakeLists.txt": "vortex_room(attention DEPENDS kernels ir base)\n",
    "src/attention/layer.h": '#include "ir/program.h"\n',
    "src/attention/cuda/chain.cuh": '#include "device.cuh"\n',
    "tests/unit/kv/pool_test.cpp": '#include "kv/pool.h"\n#include <gtest/gtest.h>\n#include "support/flows.h"\n#include "near.h"\n',
    "tests/unit/kv/near.h": "",
    "tests/support/flows.h": '#include "ir/program.h"\n',
    "include/vortex/error.h": "#include <string>\n",
    "python/vortex_attention/__init__.py": "from vortex_attention.cli import app\n",
    "python/vortex_attention/errors.py": "",
    "python/vortex_attention/language/trace.py": "from vortex_attention import _core\nfrom ..errors import UserError\n",
    "python/vortex_attention/flows/quest.py": "import vortex_attention as vx\n",
    "python/vortex_attention/models/weights.py": "from vortex_attention.language import trace\n",
    "python/vortex_attention/bench/speed.py": "from vortex_attention.models.weights import load\nimport numpy\n",
    "python/vortex_attention/cli/app.py": "import vortex_attention as vx\nfrom vortex_attention.bench import speed\n",
}


@pytest.fixture
def plant(tmp_path):
    def run(**files):
        for name, text in {**CLEAN, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check_arrows.check(tmp_path)

    return lambda path=None, text="": run(**({path: text} if path else {}))


def test_a_clean_checkout_passes(plant):
    assert plant() == []


def test_this_checkout_passes():
    assert check_arrows.check(ROOT) == []


CASES = {
    "a room that is not listed": ("src/kv/pool.h", '#include "ir/program.h"', "[src/kv/pool.h:1] kv includes only itself and its DEPENDS (base); ir/program.h belongs to ir"),
    "indented, spaced, with a comment": ("src/kv/pool.h", '\n  #  include   "ir/program.h" // why', "[src/kv/pool.h:2] kv includes"),
    "a digraph": ("src/kv/pool.h", '%:include "ir/program.h"', "[src/kv/pool.h:1] kv includes"),
    "through angle brackets": ("src/kv/pool.h", "#include <nlohmann/json.hpp>", "[src/kv/pool.h:1] kv uses the standard library only; it includes <nlohmann/json.hpp>"),
    "through a macro": ("src/kv/pool.h", "#include SOMETHING", "[src/kv/pool.h:1] an include that names its file; #include SOMETHING"),
    "a relative path": ("src/kv/pool.h", '#include "../ir/program.h"', '[src/kv/pool.h:1] includes written from src/ as "ROOM/file.h"'),
    "a bare name": ("src/kv/pool.h", '#include "table.h"', '[src/kv/pool.h:1] includes written from src/ as "ROOM/file.h"; "table.h" is not a file there'),
    "a test reaching further than its room": ("tests/unit/kv/pool_test.cpp", '#include "ir/program.h"', "[tests/unit/kv/pool_test.cpp:1] kv includes only"),
    "a forbidden arrow": ("src/attention/CMakeLists.txt", "vortex_room(attention DEPENDS kernels ir kv base)", "[src/attention/CMakeLists.txt] no arrow from attention to kv; DEPENDS has one"),
    "an arrow out of base": ("src/base/CMakeLists.txt", "vortex_room(base DEPENDS ir)", "[src/base/CMakeLists.txt] no arrow from base to ir; DEPENDS has one"),
    "an unknown room in DEPENDS": ("src/kv/CMakeLists.txt", "vortex_room(kv DEPENDS base irr)", "[src/kv/CMakeLists.txt] a room, one of attention, base, ir, kernels, kv; DEPENDS names 'irr'"),
    "a folder that is no room": ("src/extra/file.h", "", "[src/extra/CMakeLists.txt] vortex_room(extra ...); there is none"),
    "a room without a line": ("src/extra/CMakeLists.txt", "vortex_room(extra DEPENDS base)", "'extra' is new: give it a line in FORBIDDEN"),
    "a public header without a room": ("include/vortex/extra.h", "", "[include/vortex/extra.h] the room of each public header"),
    "a public header reaching up": ("include/vortex/error.h", '#include "ir/program.h"', "[include/vortex/error.h:1] base includes only itself and its DEPENDS (nothing)"),
    "device code including the standard library": ("src/kernels/cuda/device.cuh", "#include <cstdint>", "[src/kernels/cuda/device.cuh:1] device headers include only device headers of this checkout; it includes cstdint"),
    "a header that device code includes": ("src/kernels/cuda/step_arguments.h", "#include <cstdint>", "[src/kernels/cuda/step_arguments.h:1] device headers include only"),
    "device code of a later room": ("src/kernels/cuda/step.cuh", '#include "chain.cuh"', "[src/kernels/cuda/step.cuh:1] kernels includes only itself and its DEPENDS (base); chain.cuh belongs to attention"),
    "Python reaching up": ("python/vortex_attention/language/trace.py", "def f():\n    from vortex_attention.models import weights\n", "[python/vortex_attention/language/trace.py:2] language imports nothing of a higher layer; vortex_attention.models belongs to models"),
    "Python reaching up by a relative import": ("python/vortex_attention/models/weights.py", "from ..bench import speed", "models imports nothing of a higher layer; vortex_attention.bench belongs to bench"),
    "Python reaching up through the package": ("python/vortex_attention/bench/speed.py", "from vortex_attention import cli", "bench imports nothing of a higher layer; vortex_attention.cli belongs to cli"),
    "Python reaching up by name": ("python/vortex_attention/models/weights.py", "import importlib\nimportlib.import_module('vortex_attention.bench')", "[python/vortex_attention/models/weights.py:2] models imports nothing of a higher layer"),
    "Python through the front door": ("python/vortex_attention/models/weights.py", "import vortex_attention as vx", "[python/vortex_attention/models/weights.py:1] models imports from the modules themselves; vortex_attention comes through the package's front door"),
    "a Python package without a layer": ("python/vortex_attention/extra/a.py", "", "[python/vortex_attention/extra/a.py] the layer of each package in PYTHON_LAYERS of tools/check_arrows.py; 'extra' has none"),
}  # fmt: skip


@pytest.mark.parametrize("path, text, words", CASES.values(), ids=CASES.keys())
def test_a_planted_violation_is_found(plant, path, text, words):
    found = plant(path, text)
    assert any(words in line for line in found), found
