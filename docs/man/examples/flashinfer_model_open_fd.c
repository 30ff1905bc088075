/* Opens a model that begins 4096 bytes into a larger file, such as an archive of assets, and has nothing after it. */
#include <fcntl.h>
#include <flashinfer.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_error error;
    flashinfer_model *model;
    int fd, code;

    if (argc != 2) return 2;
    fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        perror(argv[1]);
        return 1;
    }
    flashinfer_error_init(&error, sizeof error);
    code = flashinfer_model_open_fd(fd, 4096, 0, NULL, &model, &error);
    close(fd);
    if (code != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    flashinfer_model_info(model, &info);
    printf("%u layers of %u neurons\n", (unsigned)info.layer_count,
           (unsigned)info.ffn_length);
    return flashinfer_model_close(model) != 0;
}
