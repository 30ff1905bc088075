/*
 * run.h - tokens of sessions become passes, and passes statistics.
 */
#ifndef FLIN_ENGINE_RUN_H
#define FLIN_ENGINE_RUN_H

#include "engine/state.h"

/* call: from flin_session_call(). */
int flin_step(flashinfer_session *session, uint64_t call, int32_t token, flashinfer_error *error);
int flin_eval(flashinfer_session *session, uint64_t call, const int32_t *tokens, size_t count,
              flashinfer_error *error);

/* Rows, at most model->pass.rows_max, in one narrow pass: each has the bits it would have alone.
   Rows of one session have ascending positions, from the session's own on. Positions move where
   the pass succeeds. */
int flin_run_narrow(flashinfer_model *model, const flin_row *rows, uint32_t count,
                    flashinfer_error *error);

/* Report progress; FLASHINFER_ECANCELED with an error text if the host wants to stop. */
int flin_progress(const flin_settings *settings, const char *stage, uint64_t done, uint64_t total,
                  flashinfer_error *error);

#endif
