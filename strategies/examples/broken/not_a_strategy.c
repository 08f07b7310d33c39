/* not_a_strategy.c: a shared library of somebody else's: refused at stage elf, it has no entry. */
int answer(void) { return 42; }
