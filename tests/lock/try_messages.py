import sys, tempfile
from pathlib import Path
sys.path[:0]=["template/.couplet","."]
from tests.lock.folders import *
from couplet.errors import UserError
t=Path(tempfile.mkdtemp()); ch=write_channel(t/"ch",PACKAGES)
n=0
def go(*specs,platforms=["linux-64"],text=None,channels=None):
    global n; n+=1
    f=Folder(t/f"p{n}",ch,platforms); f.ask(*specs,channels=channels)
    if text is not None: (f.path/"environment.yml").write_text(text)
    print("=====",specs or repr(text))
    try: print("OK",f.lock())
    except UserError as e: print("ERROR:",e)
go("python","nunpy"); go("python","qqqq"); go("numpy=3"); go("scipy=1.16.3","numpy>=2.4"); go("strict","requests"); go("old=1.0","python=3.11"); go("newer"); go("torch"); go("torch",platforms=["osx-arm64"])
go("numpy >"); go("click>>8"); go("appnope"); go("__cuda"); go("python","__glibc>=2.40"); go("numpy=2.4.6=py39*"); go("nochan::numpy"); go("python",channels=["file:///nowhere"]); go("python",channels=["http://localhost:1/x"])
go("strict","requests","python=3.11","numpy","old=1.0","scipy")
for x in ("","a: [","[]","dependencies:\n","dependencies: numpy\n","dependencies:\n  - numpy\n  - \n","dependencies:\n  - 3\n","dependencies:\n  - pip:\n    - -e .\n    - -r requirements.txt\n","dependencies:\n  - sel(linux): scipy\n","dependencies:\n  - numpy: 1\n","variables:\n  A: 1\ndependencies:\n- numpy\n","dependencies:\n- numpy  # [lin]\n","channels: conda-forge\ndependencies: [numpy]\n","name: a\nname: b\n","dependencies:\n- https://x.org/linux-64/a-1-0.conda\n","channels:\n- 3\ndependencies:\n- a\n","platforms: [linux-64]\ndependencies: [a]","dependencies:\n- git+https://x/y\n- -e .\n","\tdependencies: x"): go(text=x)
