/*
 * ablation_plot.c - a bar a row, on a logarithmic scale of milliseconds, as SVG.
 */
#include "ablation.h"

#include <math.h>

#define LEFT 120
#define WIDTH 560
#define BAR 26
#define STEP 44
#define TOP 56

static double position(double ms, double most)
{
    double least = 1, x = ms > least ? log10(ms / least) : 0;

    return LEFT + WIDTH * x / log10(most / least);
}

int ablation_plot(const ablation *of, FILE *file)
{
    double most = 10;
    int height = TOP + ABLATION_ROWS * STEP + 40;

    for (int i = 0; i < ABLATION_ROWS; i++)
        while (most < of->rows[i].total_ms) most *= 10;
    (void)fprintf(file,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                  "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%%\" "
                  "height=\"100%%\" fill=\"white\"/>\n<text x=\"%d\" y=\"22\" font-size=\"15\">"
                  "milliseconds a token, %.1f of %.1f GB (logarithmic)</text>\n",
                  LEFT + WIDTH + 170, height, LEFT, (double)of->budget_bytes / 1e9,
                  (double)of->info.file_bytes / 1e9);
    for (double ms = 1; ms <= most; ms *= 10)
        (void)fprintf(file,
                      "<path d=\"M%.1f %d V%d\" stroke=\"#ccc\"/><text x=\"%.1f\" y=\"%d\" "
                      "text-anchor=\"middle\" fill=\"#666\">%g</text>\n",
                      position(ms, most), TOP - 8, height - 30, position(ms, most), height - 12,
                      ms);
    for (int i = 0; i < ABLATION_ROWS; i++) {
        const ablation_row *row = &of->rows[i];
        int y = TOP + i * STEP;
        double end = position(row->total_ms, most), limit = position(row->limit_ms, most);
        (void)fprintf(
            file,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text><rect x=\"%d\" y=\"%d\" "
            "width=\"%.1f\" height=\"%d\" fill=\"%s\"/><path d=\"M%.1f %d v%d\" "
            "stroke=\"#d33\" stroke-width=\"2\"/><text x=\"%.1f\" y=\"%d\">%.0f ms, "
            "%.1fx</text>\n",
            LEFT - 8, y + BAR - 8, row->name, LEFT, y, end - LEFT, BAR,
            i == ABLATION_OURS ? "#2a7" : "#79b", limit, y - 3, BAR + 6, end + 6, y + BAR - 8,
            row->total_ms, of->rows[ABLATION_NAIVE].total_ms / row->total_ms);
    }
    (void)fprintf(file,
                  "<text x=\"%d\" y=\"42\" fill=\"#d33\">red: the machine's limit for the row's "
                  "bytes</text>\n</svg>\n",
                  LEFT);
    return ferror(file) ? -1 : 0;
}
