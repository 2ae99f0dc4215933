"Install mlcllm; everything that is pinned stands in settings.ini."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
EXTRAS = ("dev", "texts", "vllm", "quant", "gguf", "lora", "sft", "sweep", "site")


def wanted(key):
    "The packages that settings.ini names under `key`"
    return cfg.get(key, "").split()


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    url=cfg["git_url"],
    author=cfg["author"],
    packages=find_packages(include=["mlcllm", "mlcllm.*"]),
    package_data={"mlcllm": ["models/*/*", "demo/*", "pages/*"]},
    python_requires=f">={cfg['min_python']}",
    install_requires=wanted("requirements"),
    extras_require={name: wanted(f"{name}_requirements") for name in EXTRAS},
    entry_points={"nbdev": ["mlcllm = mlcllm._modidx:d"]},  # by it nbdev links symbols on the site
    zip_safe=False,
)
