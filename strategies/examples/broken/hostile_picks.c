/* hostile_picks.c: returns the status and the index in the request's header "answer": "<status> <index>", both decimal.
 * So with one image the host gets every wrong result that a pick can have. */
#include <stdlib.h>
#include <string.h>

#include "sound.h"

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  static const lb_str name = TEXT("answer");
  char text[64] = {0};
  char *rest = text;
  lb_str value = {NULL, 0};
  (void)strategy, (void)picker, (void)backends;
  if (request->header(request, name, 0, &value) != 1 || value.len >= sizeof text) return LB_E_OTHER;
  memcpy(text, value.ptr, value.len);
  lb_status status = (lb_status)strtol(text, &rest, 10);
  out->index = (uint32_t)strtoul(rest, NULL, 10);
  out->token = 7;
  return status;
}
static const lb_strategy_table TABLE = {SOUND, .pick = pick};
ENTRY(&TABLE)
