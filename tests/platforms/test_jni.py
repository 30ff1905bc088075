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

DEMO = """
import libflashinfer.Model;
import libflashinfer.Sampling;
import libflashinfer.Session;
import java.io.FileDescriptor;
import java.io.FileInputStream;

public class Demo {
    static final String PROMPT = "Once upon a time";

    /* One prompt, one answer, in a session of its own. */
    static String story(Model model, Sampling sampling, int tokens) {
        StringBuilder text = new StringBuilder(PROMPT);
        try (Session session = model.session(sampling)) {
            expect(session.say(PROMPT), "nobody stopped");
            session.generate(tokens, piece -> text.append(piece) != null);
        }
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

    static void budgets(Model model, String told) {
        Model.Plan plan = model.plan();
        expect(plan.minimumBytes < plan.plannedBytes && plan.plannedBytes <= plan.maximumBytes, "no such plan");
        model.setBudget(plan.minimumBytes);
        expect(model.plan().plannedBytes <= plan.minimumBytes, "set_budget did not shrink");
        expect(story(model, new Sampling(), 24).equals(told), "another budget, another story");
        expect(code(() -> model.setBudget(1000)) == -7, "set_budget took 1000 bytes");
        model.setBudget(0);
    }

    /* A session that is kept: what it is told in pieces is as if in one, and it goes on after the listener's stop. */
    static void kept(Model model, String told) throws Exception {
        StringBuilder text = new StringBuilder();
        Session session = model.session(new Sampling());
        expect(code(() -> model.session(new Sampling())) != 0, "two sessions where one was planned");
        expect(code(() -> session.generate(1, piece -> true)) == -1, "a text out of nothing");
        session.say("Once upon");
        session.say(" a time");
        expect(session.generate(5, piece -> text.append(piece) != null) == Session.End.LIMIT, "no limit");
        int[] pieces = {0};
        expect(session.generate(24, piece -> text.append(piece) != null && ++pieces[0] < 3) == Session.End.STOPPED,
                "false does not stop");
        expect(pieces[0] == 3, "false does not stop at once");
        int position = session.position();
        session.generate(6, piece -> text.append(piece) != null);
        expect(session.position() == position + 6, "six tokens are " + (session.position() - position));
        expect(told.startsWith(PROMPT + text), "in pieces it tells:" + text);
        position = session.position();
        session.say(" Then the bear came home.");
        expect(session.position() > position + 4, "it did not hear");
        session.generate(4, piece -> true);
        session.close();
        session.close();
        try {
            session.position();
            expect(false, "a closed session has a position");
        } catch (IllegalStateException closed) {
            session.stop(); /* a button that is pressed late */
        }
    }

    /* From another thread, while it runs: the listener lets the button be pressed after its tenth piece. */
    static void stopped(Model model) throws Exception {
        Session session = model.session(new Sampling());
        Object[] pressed = new Object[1];
        int[] pieces = {0};
        session.say(PROMPT);
        Session.End end = session.generate(100, piece -> {
            if (++pieces[0] != 10) return true;
            Thread button = new Thread(session::stop);
            button.start();
            try {
                button.join();
            } catch (InterruptedException problem) {
                return false;
            }
            return true;
        });
        expect(end == Session.End.STOPPED && pieces[0] <= 11, "stop() after 10 pieces, " + pieces[0] + " told: " + end);
        Thread late = new Thread(() -> {
            try {
                session.say(PROMPT);
                session.generate(100, piece -> (pressed[0] = piece) != null);
            } catch (Model.Failure | IllegalStateException problem) {
                pressed[0] = problem;
            }
        });
        late.start();
        model.close(); /* stops it, waits for it, closes the session first */
        late.join(60000);
        expect(!late.isAlive(), "close() left a call running");
        try {
            model.plan();
            expect(false, "a closed model has a plan");
        } catch (IllegalStateException closed) {
            model.close();
        }
    }

    static void exceptions(Model model) {
        try (Session session = model.session(new Sampling())) {
            session.say(PROMPT);
            session.generate(24, piece -> { throw new IllegalStateException("enough"); });
            expect(false, "an exception got lost");
        } catch (IllegalStateException problem) {
            expect(problem.getMessage().equals("enough"), problem.getMessage());
        }
        try (Session session = model.session(new Sampling())) {
            session.say(PROMPT);
            expect(code(() -> session.generate(100000, piece -> true)) == -9, "the context has no end");
        }
        Sampling wrong = new Sampling();
        wrong.topP = 2;
        expect(code(() -> model.session(wrong)) == -1, "top_p may be 2");
    }

    static void sampling(Model model, String told) {
        Sampling warm = new Sampling();
        warm.temperature = 1;
        warm.topK = 40;
        warm.repetitionPenalty = 1.2f;
        warm.seed = 3;
        String first = story(model, warm, 24);
        expect(story(model, warm, 24).equals(first), "the same seed, another story");
        warm.seed = 4;
        String second = story(model, warm, 24);
        expect(!first.equals(told) && !second.equals(first), "sampling changes nothing");
    }

    public static void main(String[] arguments) throws Exception {
        Model.Plan plan = Model.plan(arguments[0], 192);
        String told;
        try (Model model = Model.open(arguments[0], 192, plan.maximumBytes)) {
            told = story(model, new Sampling(), 24);
            System.out.println(told);
            budgets(model, told);
            kept(model, told);
            exceptions(model);
            sampling(model, told);
            stopped(model);
        }
        try (FileInputStream container = new FileInputStream(arguments[1])) {
            var field = FileDescriptor.class.getDeclaredField("fd");
            field.setAccessible(true);
            int fd = field.getInt(container.getFD());
            try (Model model = Model.open(fd, 8192, Long.parseLong(arguments[2]), 128, 0)) {
                expect(story(model, new Sampling(), 24).equals(told), "another file, another story");
            }
            expect(code(() -> Model.open(fd, 0, 0, 0, 0)) == -4, "zeros are no model");
        }
        expect(code(() -> Model.open("/nowhere", 0, 0)) == -3, "there is no such file");
        expect(code(() -> Model.plan("/nowhere", 0)) == -3, "there is no such file to plan");
    }
}
"""


def java_home():
    """Of a JDK with its jni.h, or None."""
    javac = shutil.which("javac")
    home = os.path.dirname(os.path.dirname(os.path.realpath(javac))) if javac else None
    return home if home and os.path.exists(f"{home}/include/jni.h") else None


def run_demo(source, folder, model, programs):
    """With libflashinfer_jni.so in the folder. Returns what is wrong, or None."""
    home = java_home()
    with open(f"{folder}/Demo.java", "w", encoding="utf8") as file:
        file.write(DEMO)
    with open(f"{folder}/container", "wb") as file, open(model, "rb") as read:
        file.write(bytes(8192))
        shutil.copyfileobj(read, file)
        file.write(b"more")
    classes = [f"{source}/bindings/android/java/libflashinfer/{name}.java" for name in ("Model", "Sampling", "Session")]
    subprocess.run([f"{home}/bin/javac", "--release", "11", "-Xlint:all,-options", "-Werror", "-d", folder, *classes,
                    f"{folder}/Demo.java"], check=True)
    done = subprocess.run([f"{home}/bin/java", "-Xcheck:jni", "--add-opens", "java.base/java.io=ALL-UNNAMED",
                           f"-Djava.library.path={folder}", "-cp", folder, "Demo", model, f"{folder}/container",
                           str(os.path.getsize(model))], capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    if done.returncode != 0 or "WARNING" in done.stdout or "FATAL" in done.stdout:
        return "the demo failed"
    expected = json.loads(subprocess.run([f"{programs}/generate", model, "--prompt", "Once upon a time", "--tokens", "24",
                                          "--json"], capture_output=True, check=True).stdout)["text"]
    return None if done.stdout.splitlines()[0] == expected.removeprefix("</s>") else f"generate tells: {expected}"


def main():
    source, programs, model, library = sys.argv[1:5]
    home = java_home()
    if home is None:
        print("no javac with its jni.h")
        return 77
    include = [f"-I{path}" for path in [f"{source}/include", f"{home}/include", *glob.glob(f"{home}/include/*/")]]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-shared", *include,
                        f"{source}/bindings/android/flashinfer_jni.c", "-o", f"{folder}/libflashinfer_jni.so",
                        library, f"-Wl,-rpath,{os.path.dirname(library)}"], check=True)
        problem = run_demo(source, folder, model, programs)
    print(problem or "ok")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
