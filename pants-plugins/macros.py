# BUILD vocabulary: what every package of this repository is made of, said once. Pants reads this before the BUILD files.

SSMD_VERSION = "0.1.0"


def ssmd_package(distribution, description, dependencies=[], command=None):
    """The targets of one package in `src/` beside the BUILD file.

    `:src` its modules, `:tests` the `*_test.py` beside them, `:dist` the wheel, and with `command` also `:pex`, a
    single-file executable `<command>.pex` that runs `<package>.cli:main`.
    """
    package = distribution.replace("-", "_")
    resources(
        name="data",
        sources=[f"src/{package}/**/*", "!**/*.py", "!**/*.pyc", "!**/__pycache__/**"],
    )
    python_sources(
        name="src",
        sources=["src/**/*.py", "!src/**/*_test.py", "!src/**/conftest.py"],
        dependencies=[":data", *dependencies],
    )
    python_test_utils(name="test_utils", sources=["src/**/conftest.py"])
    python_tests(name="tests", sources=["src/**/*_test.py"], dependencies=[":data"])
    python_distribution(
        name="dist",
        dependencies=[":src"],
        provides=python_artifact(
            name=distribution,
            version=SSMD_VERSION,
            description=description,
            license="MIT",
            python_requires=">=3.11",
        ),
        entry_points={"console_scripts": {command: f"{package}.cli:main"}} if command else {},
        sdist=False,
    )
    if command:
        pex_binary(
            name="pex",
            entry_point=f"{package}.cli:main",
            dependencies=[":src"],
            output_path=f"{command}.pex",
            include_tools=True,
        )
