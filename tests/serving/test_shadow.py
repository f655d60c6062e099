"""Shadow: several may have the challenger score what waits; nothing is scored twice, and nothing is lost."""

import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from serving.shadow import Shadow


def test_whoever_has_worked_finds_every_answer_scored_once():
    scored = []
    ring = SimpleNamespace(put=lambda request, _answer: scored.append(request) is None)
    scorer = SimpleNamespace(answers_at=lambda users, _ats: users)
    shadow = Shadow(lambda: SimpleNamespace(scorer=scorer, ring=ring))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for turn in range(50):
                for n in range(40):
                    shadow.put(f"{turn}-{n}", SimpleNamespace(canonical="ann", at=n))
                for done in [pool.submit(shadow.work) for _ in range(4)]:
                    done.result()
                assert sorted(scored) == sorted(f"{turn}-{n}" for n in range(40))
                scored.clear()
    finally:
        sys.setswitchinterval(before)
