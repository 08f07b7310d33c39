/* says_goodbye.c: runs code when the process ends, as a C++ library whose statics have destructors. A pick after that aborts.
 * Why it exists: images are never unloaded, so their exit handlers and destructors run when the process ends. No worker may pick then. */
#include <stdio.h>
#include <stdlib.h>

#include "sound.h"

static volatile int is_gone;
static void leave(void) { is_gone = 1; }
__attribute__((constructor)) static void arrive(void) { atexit(leave); }
__attribute__((destructor)) static void goodbye(void) {
  is_gone = 1;
  fputs("a plugin says goodbye\n", stderr);
}
static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  (void)strategy, (void)picker;
  if (is_gone) abort();
  for (uint32_t i = 0; i < backends->len; i++) {
    int is_tried = 0;
    for (uint32_t t = 0; t < request->n_tried; t++) is_tried |= request->tried[t] == i;
    if ((LB_BACKEND(backends, i)->flags & LB_BACKEND_ELIGIBLE) && !is_tried) {
      out->index = i;
      return LB_OK;
    }
  }
  return LB_NONE;
}
static const lb_strategy_table TABLE = {SOUND, .pick = pick};
ENTRY(&TABLE)
