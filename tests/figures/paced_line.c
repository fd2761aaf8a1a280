/* An RS-485 line and its sensors in true wire time: `paced_line PORT LEDGER CHAR_NS SILENCE_NS TURNAROUND_NS`.

   PORT becomes a link to the terminal. A request is on the wire for 8 characters from its first byte's arrival on; a
   silence later its unit knows that this was all, a turnaround after that the reply begins, and each byte of the reply
   is handed over when its last bit would have arrived. Every unit that is present answers functions 3 and 4; a register
   holds its own address. A request that begins before the wire is free is lost, as two talkers at once are.

   LEDGER is mapped. `present`, by unit id, is the reader's to write. `exchanges` tells of each request when it came,
   when the wire was free again after it and its reply, and how long the wire had been free before: a request after less
   than SILENCE_NS, less the microsecond that a board's clock has, is counted in `early`. Times are CLOCK_MONOTONIC. */

#include "terminal.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>

enum { EXCHANGES = 1 << 17, MAX_COUNT = 125, RESOLUTION_NS = 1000, FORGET_NS = 50000000 };

struct ledger {
    uint64_t count;
    uint64_t early;
    uint8_t present[256];
    struct exchange {
        uint64_t asked_ns;
        uint64_t free_ns;
        int64_t silence_ns;
        uint32_t unit;
        uint32_t answered;
    } exchanges[EXCHANGES];
};

static uint64_t char_ns, silence_ns, turnaround_ns;
static uint64_t free_ns; /* the wire's, after all that is on it or due */
static uint8_t reply[5 + 2 * MAX_COUNT];
static size_t reply_bytes, handed_bytes;
static uint64_t reply_ns; /* its first bit */

static void ask(struct ledger *ledger, const uint8_t *request, uint64_t at_ns) {
    if (ledger->count == EXCHANGES)
        exit(0);
    struct exchange *exchange = &ledger->exchanges[ledger->count];
    unsigned first = request[2] << 8 | request[3], count = request[4] << 8 | request[5];
    int lost = at_ns < free_ns;
    exchange->asked_ns = at_ns;
    exchange->unit = request[0];
    exchange->silence_ns = at_ns - free_ns;
    exchange->answered = !lost && ledger->present[request[0]] && count <= MAX_COUNT &&
                         (request[1] == 3 || request[1] == 4);
    ledger->early += exchange->silence_ns < (int64_t)(silence_ns - RESOLUTION_NS);
    uint64_t end_ns = at_ns + REQUEST * char_ns;
    if (exchange->answered) {
        reply[0] = request[0];
        reply[1] = request[1];
        reply[2] = 2 * count;
        for (unsigned i = 0; i < count; i++) {
            reply[3 + 2 * i] = (first + i) >> 8;
            reply[4 + 2 * i] = first + i;
        }
        reply_bytes = 5 + 2 * count;
        uint16_t crc = crc16(reply, reply_bytes - 2);
        reply[reply_bytes - 2] = crc;
        reply[reply_bytes - 1] = crc >> 8;
        handed_bytes = 0;
        reply_ns = end_ns + silence_ns + turnaround_ns;
        end_ns = reply_ns + reply_bytes * char_ns;
    }
    if (end_ns > free_ns)
        free_ns = end_ns;
    exchange->free_ns = free_ns;
    __atomic_store_n(&ledger->count, ledger->count + 1, __ATOMIC_RELEASE);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: paced_line PORT LEDGER CHAR_NS SILENCE_NS TURNAROUND_NS\n");
        return 2;
    }
    char_ns = strtoull(argv[3], NULL, 10);
    silence_ns = strtoull(argv[4], NULL, 10);
    turnaround_ns = strtoull(argv[5], NULL, 10);
    prctl(PR_SET_TIMERSLACK, 1); /* or every byte would be 50 us late */
    struct ledger *ledger = map_ledger(argv[2], sizeof *ledger);
    struct pollfd line = {.fd = open_terminal(argv[1]), .events = POLLIN};
    fcntl(line.fd, F_SETFL, O_NONBLOCK);
    uint8_t heard[256];
    size_t count = 0;
    uint64_t heard_ns = 0; /* the first of them */
    for (;;) {
        uint64_t now = now_ns();
        size_t due_bytes = handed_bytes;
        while (due_bytes < reply_bytes && reply_ns + (due_bytes + 1) * char_ns <= now)
            due_bytes++;
        if (due_bytes > handed_bytes) {
            if (write(line.fd, reply + handed_bytes, due_bytes - handed_bytes) < 0 && errno != EAGAIN)
                fail("paced_line: write");
            handed_bytes = due_bytes;
        }
        struct timespec wait, *timeout = NULL;
        if (handed_bytes < reply_bytes) {
            uint64_t due_ns = reply_ns + (handed_bytes + 1) * char_ns, left_ns;
            now = now_ns();
            left_ns = due_ns > now ? due_ns - now : 0;
            wait = (struct timespec){left_ns / 1000000000, left_ns % 1000000000};
            timeout = &wait;
        }
        if (ppoll(&line, 1, timeout, NULL) <= 0)
            continue;
        now = now_ns();
        if (count && now - heard_ns > FORGET_NS)
            count = 0; /* no request followed */
        if (!count)
            heard_ns = now;
        ssize_t got = read(line.fd, heard + count, sizeof heard - count);
        if (got <= 0)
            fail("paced_line: read");
        count += got;
        size_t at = 0;
        while (count - at >= REQUEST) {
            if (crc16(heard + at, 6) == (heard[at + 6] | heard[at + 7] << 8)) {
                ask(ledger, heard + at, heard_ns);
                heard_ns = now;
                at += REQUEST;
            } else
                at++;
        }
        memmove(heard, heard + at, count - at);
        count -= at;
    }
}
