"""kernels.py PROGRAM: checks that the compiler has vectorised our loops for ARM64.

The loops are written once, without intrinsics: x86-64 selects the variant at run time, ARM64 always has
NEON. The loops are inlined into their callers, so the line tables of a release build map each vector
instruction back to its functions.
"""

import collections
import re
import subprocess
import sys

# Source, function, and the fewest vector instructions of a vectorised form.
KERNELS = (
    ("src/analysis/luma.rs", "filter", 20),
    ("src/analysis/luma.rs", "sum_of_squares", 8),
    ("src/analysis/value.rs", "block_values", 20),
    ("src/analysis/value.rs", "largest_sum_here", 6),
    ("src/analysis/mixture.rs", "learn_block", 60),
    ("src/analysis/reduced.rs", "add_boxes", 20),
    ("src/frame/plane.rs", "sum_columns_here", 8),
    ("src/image/samples.rs", "narrow_luma", 8),
    ("src/image/samples.rs", "narrow_chroma", 8),
    ("src/image/samples.rs", "widen_luma", 8),
    ("src/image/samples.rs", "widen_chroma", 8),
    ("src/image/samples.rs", "across_rows", 8),
    ("src/image/scale.rs", "add_scaled", 4),
    ("src/image/scale.rs", "middles", 8),
    ("src/image/scale.rs", "mix_rows", 8),
    ("src/image/scale.rs", "try_means", 8),
    ("src/image/scale.rs", "weigh_ends", 8),
    ("src/image/yuv.rs", "rows", 20),
)
VECTOR = re.compile(r"[ \t,{]v\d+\.(16b|8b|8h|4h|4s|2s|2d)")


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def bare(name):
    """The function's name without modules, generics and the dispatcher's suffix."""
    return name.split("<")[0].rsplit("::", 1)[-1].removesuffix("_default_version") or name


def vector_instructions(program):
    """Addresses of vector instructions in our functions."""
    inside = False
    for line in run("aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", "-C", program).splitlines():
        if line.endswith(">:"):
            inside = "<framepress::" in line
        elif inside and VECTOR.search(line):
            yield "0x" + line.split(":")[0].strip()


def origins(program, addresses):
    """For each address the functions it comes from, with their sources."""
    text = run("aarch64-linux-gnu-addr2line", "-afiC", "-e", program, input="\n".join(addresses))
    for block in re.split(r"^0x[0-9a-f]+\n", text, flags=re.M)[1:]:
        lines = block.splitlines()
        yield set(
            zip((bare(name) for name in lines[::2]), (at.split(":")[0] for at in lines[1::2]), strict=True)
        )


def main():
    program = sys.argv[1]
    counts = collections.Counter()
    for chain in origins(program, vector_instructions(program)):
        counts.update(chain)
    missing = []
    for source, function, least in KERNELS:
        found = sum(
            count for (name, file), count in counts.items() if name == function and file.endswith(source)
        )
        print(f"{found:6} vector instructions of {function} ({source})")
        if found < least:
            missing.append(function)
    if missing:
        sys.exit(f"not vectorised: {', '.join(missing)}")


main()
