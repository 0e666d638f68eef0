#!/bin/sh
# Runs a firmware under QEMU with a time limit and passes its exit status on.
#
#   emulate.sh MACHINE SECONDS PROGRAM [WORD...]
#
# The words reach the program over semihosting, joined by newlines, whatever characters they hold.
# QEMU_SERIAL (default null) is where the UART goes: "stdio" for the terminal. QEMU_EXTRA: further
# options, split at spaces.
set -u
machine=$1 seconds=$2 program=$3
shift 3

command=
for word in "$@"; do
  command="${command:+$command
}$word"
done
# QEMU's option syntax doubles a comma that is not a separator. The dot keeps trailing newlines.
command=$(printf '%s.' "$command" | sed 's/,/,,/g')
command=${command%.}

# -icount shift=7: one instruction takes 128 ns of the board's clock, so its counter counts
# instructions (boards/drivers/counter_fpgaio.c).
# --foreground: a program in the background could not read the terminal.
# shellcheck disable=SC2086
timeout --foreground -k 5 "$seconds" qemu-system-arm -machine "$machine" -display none -monitor none \
  -serial "${QEMU_SERIAL:-null}" -icount shift=7 ${QEMU_EXTRA:-} \
  -semihosting-config "enable=on,target=native,arg=embbert,arg=$command" \
  -kernel "$program"
status=$?
if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
  echo "emulate.sh: $machine did not finish within $seconds s; set TIMEOUT=<seconds> for more" >&2
fi
exit "$status"
