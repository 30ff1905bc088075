/*
 * fidelity_plot.c - neurons named against false negatives, both logarithmic, as SVG: a line a predictor for what its
 * best thresholds would give, a dot for what its own gave.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fidelity.h"

#define LEFT 70.0
#define TOP 50.0
#define WIDTH 560.0
#define HEIGHT 360.0
#define SHARE_MAX 1.0
#define MISSED_MAX 0.2
#define MISSED_MIN 0.0005

static const char *const colours[FIDELITY_SUBJECTS] = {"#2a7", "#c33", "#36c", "#d80",
                                                       "#82a", "#0aa", "#777", "#a52"};

/* share_min: at the left edge */
static double x_of(double share, double share_min)
{
    if (share < share_min) share = share_min;
    return LEFT + WIDTH * log(share / share_min) / log(SHARE_MAX / share_min);
}

static double y_of(double missed)
{
    if (missed < MISSED_MIN) missed = MISSED_MIN;
    if (missed > MISSED_MAX) missed = MISSED_MAX;
    return TOP + HEIGHT * log(MISSED_MAX / missed) / log(MISSED_MAX / MISSED_MIN);
}

static void draw_axes(FILE *file, double share_min)
{
    static const double shares[] = {0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1};
    static const double missed[] = {0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001};

    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        double x = x_of(shares[i], share_min);
        if (shares[i] < share_min) continue;
        (void)fprintf(file,
                      "<path d=\"M%.1f %.1f v%.1f\" stroke=\"#ccc\"/><text x=\"%.1f\" y=\"%.1f\" "
                      "text-anchor=\"middle\" fill=\"#666\">%g%%</text>\n",
                      x, TOP, HEIGHT, x, TOP + HEIGHT + 18, 100 * shares[i]);
    }
    for (size_t i = 0; i < sizeof missed / sizeof missed[0]; i++) {
        double y = y_of(missed[i]);
        (void)fprintf(file,
                      "<path d=\"M%.1f %.1f h%.1f\" stroke=\"#ccc\"/><text x=\"%.1f\" y=\"%.1f\" "
                      "text-anchor=\"end\" fill=\"#666\">%g%%</text>\n",
                      LEFT, y, WIDTH, LEFT - 6, y + 4, 100 * (1 - missed[i]));
    }
    (void)fprintf(file,
                  "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">neurons named, share of the "
                  "FFN</text>\n<text x=\"%.1f\" y=\"%.1f\">recall: share of the neurons that fire "
                  "which are named</text>\n",
                  LEFT + WIDTH / 2, TOP + HEIGHT + 40, LEFT, TOP - 14);
}

/* Names come from the command line. */
static void put_text(FILE *file, const char *text)
{
    const char *slash = strrchr(text, '/');

    for (const char *at = slash != NULL ? slash + 1 : text; *at != 0; at++) {
        if (*at == '<')
            (void)fputs("&lt;", file);
        else if (*at == '&')
            (void)fputs("&amp;", file);
        else
            (void)fputc(*at, file);
    }
}

static void draw_subject(const fidelity *at, const fidelity_subject *subject, uint32_t index,
                         FILE *file, double share_min)
{
    fidelity_layer sum = fidelity_sum(at, subject);
    double named = (double)sum.predicted / ((double)sum.steps * (double)at->info.ffn_length);

    (void)fprintf(file, "<path fill=\"none\" stroke-width=\"2\" stroke=\"%s\" d=\"",
                  colours[index]);
    for (uint32_t k = 0; k < JUDGE_RECALLS; k++)
        (void)fprintf(file, "%c%.1f %.1f ", k == 0 ? 'M' : 'L',
                      x_of(subject->curve[k][1], share_min), y_of(1 - subject->curve[k][0]));
    (void)fprintf(file, "\"/>\n<circle r=\"5\" cx=\"%.1f\" cy=\"%.1f\" fill=\"%s\"/>\n",
                  x_of(named, share_min), y_of(1 - fidelity_recall(&sum)), colours[index]);
    (void)fprintf(file, "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">", LEFT + WIDTH + 16,
                  TOP + 14 + 22 * index, colours[index]);
    put_text(file, subject->name);
    (void)fprintf(file, ", %.2f MB</text>\n", (double)subject->predictor_bytes / 1e6);
}

int fidelity_plot(const fidelity *at, FILE *file)
{
    double active = (double)at->exact.stats.active / (double)at->exact.stats.neurons;
    double share_min = active < 0.005 ? 0.002 : active < 0.01 ? 0.005 : active < 0.02 ? 0.01 : 0.02;
    double x = x_of(active, share_min);

    (void)fprintf(file,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                  "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%%\" "
                  "height=\"100%%\" fill=\"white\"/>\n",
                  LEFT + WIDTH + 260, TOP + HEIGHT + 60);
    draw_axes(file, share_min);
    (void)fprintf(file,
                  "<path d=\"M%.1f %.1f v%.1f\" stroke=\"#444\" stroke-dasharray=\"4 4\"/><text "
                  "x=\"%.1f\" y=\"%.1f\" fill=\"#444\">active</text>\n",
                  x, TOP, HEIGHT, x + 4, TOP + 14);
    for (uint32_t i = 0; i < at->count; i++) draw_subject(at, &at->subjects[i], i, file, share_min);
    (void)fprintf(file, "</svg>\n");
    return ferror(file) ? -1 : 0;
}
