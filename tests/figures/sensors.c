/* Sensors on a pseudo-terminal, as fast as they are asked: `sensors PORT LEDGER` serves until it is killed.

   PORT becomes a link to the terminal. Every unit answers functions 3 and 4 on registers 0 to 31; a register tells how
   often it has been read, modulo 65536, so every reply carries new values and each value names the reply that it came
   from. LEDGER is mapped, so that whoever opens it sees, by unit and register: `served`, how often it was read, and
   `at_ns`, CLOCK_MONOTONIC when each of its last 1024 replies was handed to the terminal, whole; and of the line:
   `requests` that were answered, and `chars`, every byte that went either way. */

#include "terminal.h"
#include <string.h>

enum { UNITS = 32, REGISTERS = 32, KEPT = 1024 };

struct ledger {
    uint64_t served[UNITS][REGISTERS];
    uint64_t at_ns[UNITS][REGISTERS][KEPT];
    uint64_t requests, chars;
};

static void answer(int line, struct ledger *ledger, const uint8_t *request) {
    unsigned unit = request[0], first = request[2] << 8 | request[3], count = request[4] << 8 | request[5];
    if (unit >= UNITS || first + count > REGISTERS || (request[1] != 3 && request[1] != 4))
        return;
    uint8_t reply[5 + 2 * REGISTERS] = {unit, request[1], 2 * count};
    size_t length = 3;
    for (unsigned r = first; r < first + count; r++) {
        uint16_t value = ++ledger->served[unit][r];
        reply[length++] = value >> 8;
        reply[length++] = value;
    }
    uint16_t crc = crc16(reply, length);
    reply[length++] = crc;
    reply[length++] = crc >> 8;
    uint64_t now = now_ns(); /* before the write: nobody may be told of a value without a time */
    for (unsigned r = first; r < first + count; r++)
        ledger->at_ns[unit][r][ledger->served[unit][r] % KEPT] = now;
    ledger->requests++;
    ledger->chars += length;
    if (write(line, reply, length) != (ssize_t)length)
        fail("sensors: write");
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: sensors PORT LEDGER\n");
        return 2;
    }
    struct ledger *ledger = map_ledger(argv[2], sizeof *ledger);
    int line = open_terminal(argv[1]);
    uint8_t heard[256];
    size_t count = 0;
    for (;;) {
        ssize_t got = read(line, heard + count, sizeof heard - count);
        if (got <= 0)
            fail("sensors: read");
        count += got;
        ledger->chars += got;
        size_t at = 0;
        while (count - at >= REQUEST) {
            const uint8_t *request = heard + at;
            if (crc16(request, 6) == (request[6] | request[7] << 8)) {
                answer(line, ledger, request);
                at += REQUEST;
            } else
                at++;
        }
        memmove(heard, heard + at, count - at);
        count -= at;
    }
}
