from tagger.doctor import Diagnosis, EncoderFile, Part, Problem, Smoke
from tagger.environment import Hardware, Revision
from tagger.reporting.doctor import describe

FOUND = Diagnosis(
    git=Revision(revision="a" * 40, changed_files=True),
    versions={"python": "3.11.7", "tagger": "0.1.0", "torch": "2.13.0", "optuna": "not installed"},
    hardware=Hardware(cpu="EPYC", cores=4, memory_gib=23.5, gpu=None, system="Linux-6"),
    instructions=["avx2", "avx512_bf16"],
    threads=2,
    settings={"OMP_NUM_THREADS": "2"},
    disk_free_gib=54.9,
    caches={"tagger": "~/.cache/tagger, 3 MiB"},
    parts={
        "answering": Part(needed=True, lacks=[], get="pip install x"),
        "search": Part(needed=False, lacks=["optuna"], get="pip install y"),
    },
    encoders={
        "package:a": EncoderFile(state="verified", sha256="b" * 64, config="a.yaml"),
        "pieces:c": EncoderFile(state="not here", sha256="d" * 64, config="c.yaml"),
    },
    smoke=Smoke(model="minilm", load_ms=812.3, first_ms=12.34, median_ms=8.91),
    problems=[],
)


def test_each_finding_is_one_line() -> None:
    assert describe(FOUND).splitlines() == [
        "- tagger: 0.1.0, revision aaaaaaaaaaaa, changed",
        "- python: 3.11.7, Linux-6",
        "- libraries: torch 2.13.0",
        "- processor: EPYC: avx2, avx512_bf16",
        "- threads: 2 of 4 cores, OMP_NUM_THREADS=2",
        "- gpu: none",
        "- memory: 23.5 GiB; 54.9 GiB of disk are free here",
        "- cache of tagger: ~/.cache/tagger, 3 MiB",
        "- part answering: there",
        "- part search: lacks optuna: pip install y",
        "- encoder package:a: verified, sha256 bbbbbbbbbbbb",
        "- encoder pieces:c: not here: see c.yaml",
        "- prediction by minilm: loaded in 812 ms, first text 12.3 ms, then 8.91 ms in the median",
        "- result: all that is needed is there",
    ]


def test_problems_stand_at_the_end() -> None:
    problem = Problem(what="answering lacks numpy", mend="pip install x")
    broken = FOUND.model_copy(update={"smoke": None, "git": None, "problems": [problem]})

    lines = describe(broken).splitlines()

    assert lines[0] == "- tagger: 0.1.0"
    assert lines[-1] == "- PROBLEM: answering lacks numpy: pip install x"
    assert "prediction" not in "".join(lines)
