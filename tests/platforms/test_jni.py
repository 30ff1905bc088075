#!/usr/bin/env python3
"""The JNI sketch of bindings/android runs on a desktop's Java: what it shows of Android is the native interface, no more.

usage: test_jni.py SOURCE_DIR PROGRAMS_DIR MODEL.gguf LIBRARY.so       needs javac and its jni.h, skips without
"""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile

SOURCE, PROGRAMS, MODEL, LIBRARY = sys.argv[1:5]
DEMO = """
import libflashinfer.Model;
import java.io.FileDescriptor;
import java.io.FileInputStream;

public class Demo {
    static String story(Model model, int tokens) {
        StringBuilder text = new StringBuilder("Once upon a time");
        model.generate("Once upon a time", tokens, piece -> text.append(piece) != null);
        return text.toString();
    }

    static void expect(boolean right, String what) {
        if (!right) throw new AssertionError(what);
    }

    static int code(Runnable call) {
        try {
            call.run();
        } catch (Model.Failure failure) {
            System.err.println(failure.getMessage());
            return failure.code;
        }
        return 0;
    }

    public static void main(String[] arguments) throws Exception {
        String told;
        try (Model model = Model.open(arguments[0], 0)) {
            told = story(model, 24);
            System.out.println(told);
            model.setBudget(21000000);
            expect(story(model, 24).equals(told), "another budget, another story");
            expect(code(() -> model.setBudget(1000)) == -7, "set_budget took 1000 bytes");
            expect(code(() -> model.generate("x", 100000, piece -> true)) == -9, "the context has no end");
            int[] pieces = {0};
            model.generate("Once upon a time", 24, piece -> ++pieces[0] < 3);
            expect(pieces[0] == 3, "false does not stop");
            try {
                model.generate("Once upon a time", 24, piece -> { throw new IllegalStateException("enough"); });
                expect(false, "an exception got lost");
            } catch (IllegalStateException problem) {
                expect(problem.getMessage().equals("enough"), problem.getMessage());
            }
        }
        try (FileInputStream container = new FileInputStream(arguments[1])) {
            var field = FileDescriptor.class.getDeclaredField("fd");
            field.setAccessible(true);
            int fd = field.getInt(container.getFD());
            try (Model model = Model.open(fd, 8192, Long.parseLong(arguments[2]), 0)) {
                expect(story(model, 24).equals(told), "another file, another story");
            }
            expect(code(() -> Model.open(fd, 0, 0, 0)) == -4, "zeros are no model");
        }
        expect(code(() -> Model.open("/nowhere", 0)) == -3, "there is no such file");
    }
}
"""


def main():
    javac = shutil.which("javac")
    home = os.path.dirname(os.path.dirname(os.path.realpath(javac))) if javac else None
    if not javac or not os.path.exists(f"{home}/include/jni.h"):
        print("no javac with its jni.h")
        return 77
    include = [f"-I{path}" for path in [f"{SOURCE}/include", f"{home}/include", *glob.glob(f"{home}/include/*/")]]
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/Demo.java", "w", encoding="utf8") as file:
            file.write(DEMO)
        with open(f"{folder}/container", "wb") as file, open(MODEL, "rb") as model:
            file.write(bytes(8192))
            shutil.copyfileobj(model, file)
            file.write(b"more")
        where = os.path.dirname(LIBRARY)
        subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-shared", *include,
                        f"{SOURCE}/bindings/android/flashinfer_jni.c", "-o", f"{folder}/libflashinfer_jni.so",
                        LIBRARY, f"-Wl,-rpath,{where}"], check=True)
        subprocess.run([javac, "--release", "11", "-Xlint:all,-options", "-Werror", "-d", folder,
                        f"{SOURCE}/bindings/android/java/libflashinfer/Model.java", f"{folder}/Demo.java"], check=True)
        done = subprocess.run([f"{home}/bin/java", "-Xcheck:jni", "--add-opens", "java.base/java.io=ALL-UNNAMED",
                               f"-Djava.library.path={folder}", "-cp", folder, "Demo", MODEL, f"{folder}/container",
                               str(os.path.getsize(MODEL))], capture_output=True, text=True, check=False)
    expected = json.loads(subprocess.run([f"{PROGRAMS}/generate", MODEL, "--prompt", "Once upon a time", "--tokens", "24",
                                          "--json"], capture_output=True, check=True).stdout)["text"]
    print(done.stdout, done.stderr)
    if done.returncode != 0 or "WARNING" in done.stdout or "FATAL" in done.stdout:
        return 1
    return 0 if done.stdout.splitlines()[0] == expected.removeprefix("</s>") else 1


if __name__ == "__main__":
    sys.exit(main())
