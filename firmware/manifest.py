"""What goes on a board, in MicroPython's manifest syntax: freeze it, or compile and copy it. Shell."""

module("boot.py")
module("main.py")
module("board.py")
module("flash.py")
module("moved.py")
module("outputs.py")
module("overheard.py")
module("pins.py")
module("poller.py")
module("recorder.py")
module("tally.py")
module("uptime.py")
module("wired.py")
module("protocols/octets.py", base_path="..")
module("protocols/ticks.py", base_path="..")
module("protocols/modbus.py", base_path="..")
module("protocols/readplan.py", base_path="..")
module("protocols/link.py", base_path="..")
module("protocols/switching.py", base_path="..")

# What the viper emitter compiles to machine code (`mpy-cross -march=... -X emit=viper`), everything else to bytecode.
VIPER = ("protocols/octets.py", "protocols/ticks.py")
