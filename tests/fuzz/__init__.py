"""Every parser driven by coverage-guided random input: `make fuzz`, or `python -m tests.fuzz TARGET --runs N`. Shell.

A target is a file of this folder with `seeds()`, valid input made by the project's own code, and `run_one(data)`, which
raises where the parser does what it must not: any error but those it promises, and a broken promise of its own. Atheris
(libFuzzer) changes the seeds and keeps every input that reaches new bytecode of protocols, firmware, edge or tomllib.
Each target runs in a process of its own, with a limit on memory and on the time of one input.

What wires and brokers carry has checksums that random bytes never hit. So those inputs are scripts (script.py): steps
of which some are bytes as they are, and some are bodies that the target seals with a right checksum itself.

A failure is printed as the input's bytes with the command that runs it again, in plain Python:
`python -m tests.fuzz TARGET --input HEX`. What was found once stands as a test beside the parser's others.
"""
