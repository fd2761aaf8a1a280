"""The figures that the project promises, measured: `make bench`, or `python -m tests.figures --only ID,ID`. Shell.

Method. Whole gateways are measured between two ends of our own (chain.py): sensors in C on a pseudo-terminal, whose
ledger knows every value that was handed out and when, and a receiver behind mosquitto (set_tcp_nodelay: its default
holds packets back for 40 ms now and then, which is nothing of a gateway) that keeps every reading and when
it came. Each value is the count of its register's reads, so lost and repeated readings show by themselves and are told
beside each figure. Nothing of ours or of a peer is set for speed. A bound is what was promised: it is never moved to
what is measured, and a figure that misses its bound makes the run fail.

Noise. CPU is time on a CPU from schedstat, so other work on the machine costs a gateway no share of it, but warm caches
and clock speed: on two busy cores costs rise by a third, of ours and of a peer alike, which is why only their ratio has
a bound and why the two take turns. Repeated ratios lie within a tenth of each other on a quiet machine. Latencies have
no such shelter: they are right only while the machine has an idle core. Heap figures do not vary: they are counted.

A board as a Modbus master is measured on lines that keep wire time (paced_line.c): 11 bits a character, each byte of a
reply handed over when its last bit would have arrived. The silence before each request counts from the true end of what
was on the wire. A thing that is promised along with a number, such as this silence on every request, makes the figure
fail where it is not kept. A board as slow as an ESP32 is the same program, its interpreter slowed down by valgrind.
Units that come and go do so at random: the worst case counts, and the seed is told. Late replies are tried out in
virtual time, since no bus would live to see all of them.

What a pseudo-terminal has not is a UART: no bits on a wire, no FIFO. Bytes come at once, and a board's time is
that of its interpreter on this machine, not of an ESP32.
"""
