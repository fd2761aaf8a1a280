/* A Modbus RTU server of libmodbus: `libmodbus_server PORT UNIT_ID`, 9600 8N1, until it is killed.

   What it serves comes from stdin, a line a register: table (coil, input, holding, measured), address and value. It
   has the addresses 0 to 299 of each table. "ready" on stdout says that the port is open. */

#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ADDRESSES = 300 };

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: libmodbus_server PORT UNIT_ID\n");
        return 2;
    }
    modbus_t *line = modbus_new_rtu(argv[1], 9600, 'N', 8, 1);
    modbus_mapping_t *tables = modbus_mapping_new(ADDRESSES, ADDRESSES, ADDRESSES, ADDRESSES);
    if (!line || !tables || modbus_set_slave(line, atoi(argv[2]))) {
        fprintf(stderr, "libmodbus_server: %s\n", modbus_strerror(errno));
        return 1;
    }
    char table[16];
    unsigned address;
    int value;
    while (scanf("%15s %u %i", table, &address, &value) == 3) {
        if (address >= ADDRESSES)
            return 2;
        if (!strcmp(table, "coil"))
            tables->tab_bits[address] = value;
        else if (!strcmp(table, "input"))
            tables->tab_input_bits[address] = value;
        else if (!strcmp(table, "holding"))
            tables->tab_registers[address] = value;
        else
            tables->tab_input_registers[address] = value;
    }
    if (modbus_connect(line)) {
        fprintf(stderr, "libmodbus_server: %s: %s\n", argv[1], modbus_strerror(errno));
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        uint8_t request[MODBUS_RTU_MAX_ADU_LENGTH];
        int length = modbus_receive(line, request);
        if (length > 0)
            modbus_reply(line, request, length, tables);
    }
}
