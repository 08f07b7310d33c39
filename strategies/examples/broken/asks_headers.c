/* asks_headers.c: names response headers, with -DCOUNT=9 one too many, with -DNAME='"a b"' one that is none, with -DFLAGS=.flags=0 without the
 * flags. Refused at stage version. */
#include "sound.h"
#ifndef COUNT
#define COUNT 1
#endif
#ifndef NAME
#define NAME "x-load"
#endif
#ifndef FLAGS
#define FLAGS .flags = LB_F_WANTS_FINISH | LB_F_WANTS_ANSWER, .on_finish = ignore
#endif
static inline void ignore(lb_strategy *strategy, const lb_finish *finish) { (void)strategy, (void)finish; }
static const lb_str NAMES[9] = {TEXT(NAME), TEXT("b"), TEXT("c"), TEXT("d"), TEXT("e"), TEXT("f"), TEXT("g"), TEXT("h"), TEXT("i")};
static const lb_strategy_table TABLE = {SOUND, .response_headers = NAMES, .n_response_headers = COUNT, FLAGS};
ENTRY(&TABLE)
