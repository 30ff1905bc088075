/*
 * absent.c - stands in for measuring in builds made without the probe, so that the ABI stays whole.
 * A result that another build measured is still taken by options.probe (recommend.c).
 */
#include "probe/probe.h"

static int refuse(flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "this build of the library was made without probe; build it with "
                     "-Dprobe=enabled");
}

int flin_probe_run(const char *path, const flashinfer_probe_options *options,
                   flashinfer_probe_result *result, flashinfer_error *error)
{
    (void)path;
    (void)options;
    (void)result;
    return refuse(error);
}

int flin_probe_save(const flashinfer_probe_result *result, const char *path,
                    flashinfer_error *error)
{
    (void)result;
    (void)path;
    return refuse(error);
}

int flin_probe_load(const char *path, flashinfer_probe_result *result, flashinfer_error *error)
{
    (void)path;
    (void)result;
    return refuse(error);
}
