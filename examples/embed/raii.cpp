/*
 * raii.cpp - the C interface from C++17: handles that release themselves, errors as exceptions.
 *
 * The lesson: unique_ptr with the library's own destroy functions is all the wrapping there is to do. Sessions and
 * decoders are declared after their model, so that they go first.
 */
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <flashinfer.h>

extern "C" {
#include "../arguments.h"
}

namespace
{

template <auto function> struct Release {
    template <class Handle> void operator()(Handle *handle) const
    {
        (void)function(handle);
    }
};

using Model = std::unique_ptr<flashinfer_model, Release<flashinfer_model_close>>;
using Session = std::unique_ptr<flashinfer_session, Release<flashinfer_session_destroy>>;
using Decoder = std::unique_ptr<flashinfer_decoder, Release<flashinfer_decoder_destroy>>;

class Failure : public std::runtime_error
{
  public:
    Failure(int code, const flashinfer_error &error)
        : std::runtime_error(std::string(flashinfer_error_name(code)) + ": " + error.text)
    {
    }
};

/* Call a function with an error record as its last argument; throw what it says. */
template <class Function, class... Arguments> void call(Function function, Arguments... arguments)
{
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    const int code = function(arguments..., &error);
    if (code != 0) throw Failure(code, error);
}

/* The same for functions that make a handle. */
template <class Handle, class Function, class... Arguments>
Handle make(Function function, Arguments... arguments)
{
    typename Handle::pointer handle = nullptr;

    call(function, arguments..., &handle);
    return Handle(handle);
}

std::vector<int32_t> tokenize(const flashinfer_model *model, std::string_view text)
{
    /* never more: a byte may become one, a space three, and a beginning and a space may come first */
    std::vector<int32_t> ids(3 * text.size() + 4);
    std::size_t count = 0;

    call(flashinfer_tokenize, model, text.data(), text.size(), uint32_t{FLASHINFER_TOKENIZE_BOS},
         ids.data(), ids.size(), &count);
    ids.resize(count);
    return ids;
}

int32_t likeliest(const flashinfer_session *session)
{
    std::size_t count = 0, best = 0;
    const float *logits = flashinfer_logits(session, &count);

    for (std::size_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return static_cast<int32_t>(best);
}

void tell(const char *path, std::uint64_t budget)
{
    flashinfer_options options;

    flashinfer_options_init(&options, sizeof options);
    options.memory_budget = budget;
    const Model model = make<Model>(flashinfer_model_open, path, &options);
    const Session session = make<Session>(flashinfer_session_create, model.get());
    const Decoder decoder = make<Decoder>(flashinfer_decoder_create, model.get());
    const auto say = [&](int32_t token) {
        const char *piece = "";

        call(flashinfer_decoder_push, decoder.get(), token, &piece,
             static_cast<std::size_t *>(nullptr));
        std::fputs(piece, stdout);
    };
    const std::vector<int32_t> ids = tokenize(model.get(), "Once upon a time");

    for (int32_t id : ids) say(id);
    call(flashinfer_eval, session.get(), ids.data(), ids.size());
    for (int i = 0; i < 24; i++) {
        const int32_t token = likeliest(session.get());
        say(token);
        if (i < 23) call(flashinfer_step, session.get(), token);
    }
    say(-1);
    std::puts("");
}

} // namespace

int main(int argc, char **argv)
{
    static const char usage[] = "Tells a story from C++.\n"
                                "raii MODEL.gguf BUDGET_BYTES\n"
                                "  MODEL.gguf     model file\n"
                                "  BUDGET_BYTES   memory of the model; 0: all it can use";
    const char *given[2];
    char *end;

    if (program_parse(argc, argv, nullptr, 0, given, 2, usage) != 0) return 2;
    const std::uint64_t budget = std::strtoull(given[1], &end, 10);
    if (end == given[1] || *end != '\0' || given[1][0] == '-')
        return program_refuse("BUDGET_BYTES is a whole number, not \"%s\"", given[1]);
    try {
        tell(given[0], budget);
    } catch (const std::exception &problem) {
        std::fprintf(stderr, "%s\n", problem.what());
        return 1;
    }
    return 0;
}
