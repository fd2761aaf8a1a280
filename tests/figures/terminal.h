/* What the simulated lines share: a terminal that a master opens, a mapped ledger, the clock and the CRC. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST = 8 }; /* bytes of a read request */

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint16_t crc16(const uint8_t *bytes, size_t count) { /* MODBUS over Serial Line V1.02, 6.2.2 */
    uint16_t crc = 0xFFFF;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xA001 : crc >> 1;
    }
    return crc;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void *map_ledger(const char *path, size_t bytes) {
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || ftruncate(file, bytes))
        fail(path);
    void *ledger = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (ledger == MAP_FAILED)
        fail(path);
    return ledger;
}

/* The near end of a new terminal; `path` becomes a link to its far end. */
static int open_terminal(const char *path) {
    int line = posix_openpt(O_RDWR | O_NOCTTY);
    if (line < 0 || grantpt(line) || unlockpt(line))
        fail("terminal");
    int held = open(ptsname(line), O_RDWR | O_NOCTTY); /* so that it outlives a master that comes and goes */
    struct termios raw;
    if (held < 0 || tcgetattr(held, &raw))
        fail("terminal");
    cfmakeraw(&raw);
    tcsetattr(held, TCSANOW, &raw);
    if (symlink(ptsname(line), path))
        fail(path);
    return line;
}
