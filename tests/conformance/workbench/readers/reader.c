/* Judge the answer beside one vector: cc reader.c -lm -o reader && ./reader FOLDER. Exits 1 where it is wrong. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char role[16], name[32], dtype[16]; long offset, count; char *body; } Line;

static int load(const char *folder, const char *stem, Line *lines) {
    char path[4096], text[4096]; int n = 0, read; long rank, size;
    snprintf(path, sizeof path, "%s/%s.bin", folder, stem);
    FILE *file = fopen(path, "rb"); fseek(file, 0, SEEK_END); size = ftell(file); rewind(file);
    char *body = malloc(size + 1); if (fread(body, 1, size, file) != (size_t)size) exit(2);
    snprintf(path, sizeof path, "%s/%s.txt", folder, stem); file = fopen(path, "r");
    for (Line *l = lines; fgets(text, sizeof text, file); l = lines + ++n) {
        if (sscanf(text, "%15s %31s %15s %ld %ld%n", l->role, l->name, l->dtype, &l->offset, &rank, &read) < 5) { n--; continue; }
        l->body = body; l->count = 1;
        for (char *rest = text + read; rank--; l->count *= strtol(rest, &rest, 10)) {}
    }
    return n;
}
static double at(const Line *l, long i) {
    return strcmp(l->dtype, "float32") ? ((double *)(l->body + l->offset))[i] : ((float *)(l->body + l->offset))[i];
}
int main(int argc, char **argv) {
    static Line want[999], got[999]; int wrong = 0, wants = load(argv[argc - 1], "case", want), gots = load(argv[argc - 1], "answer", got);
    for (Line *e = want; e < want + wants; e++) for (Line *a = got; a < got + gots; a++) if (!strcmp(e->role, "expected") && !strcmp(e->name, a->name))
        for (long i = 0, bad = 0; i < e->count && !bad; i++) { /* the line after `expected` is `allowed` */
            double expected = at(e, i), allowed = at(e + 1, i), answer = at(a, i);
            bad = !(isinf(allowed) || answer == expected || fabs(answer - expected) <= allowed || (isnan(expected) && isnan(answer)));
            if (bad) printf("%s[%ld] is %g, expected %g +- %g\n", e->name, i, answer, expected, allowed), wrong = 1;
        }
    return wrong;
}
