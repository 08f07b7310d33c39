/* not_a_strategy.c: a shared library without the entry of a strategy. Refused at stage elf. */
int answer(void) { return 42; }
