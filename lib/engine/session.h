/*
 * session.h - sequences: taking and giving back the places planned at open, rewinding, saving and
 * loading their state.
 */
#ifndef FLIN_ENGINE_SESSION_H
#define FLIN_ENGINE_SESSION_H

#include "engine/state.h"

int flin_session_create(flashinfer_model *model, flashinfer_session **session,
                        flashinfer_error *error);
void flin_session_destroy(flashinfer_session *session);

/* A call that can be cancelled is made, before it waits for the model's lock. Returns its
   number, which flin_step() or flin_eval() takes. */
uint64_t flin_session_call(flashinfer_session *session);

/* End the calls that have been made and are not over; none made later. Asks for no lock: from any
   thread, signal handler or callback. */
void flin_session_cancel(flashinfer_session *session);

int flin_session_rewind(flashinfer_session *session, uint32_t position, flashinfer_error *error);
size_t flin_state_bytes(const flashinfer_session *session);
int flin_state_save(const flashinfer_session *session, void *buffer, size_t capacity,
                    size_t *written, flashinfer_error *error);
int flin_state_load(flashinfer_session *session, const void *buffer, size_t bytes,
                    flashinfer_error *error);

#endif
