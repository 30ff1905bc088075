#!/usr/bin/env python3
"""The Android project in bindings/android, as far as it can be shown without Android's tools.

    build     CMakeLists.txt, configured and built with the system's compiler in the NDK's place: the library with Android's
              sources and options, the JNI side, and the demo of test_jni.py running on them
    level     what that imports needs the API level that the cross file, Gradle and the document name, and no higher one
    budget    MemoryBudget.java against a few classes that stand for Android's
    gradle    Gradle's files name what is there, and parse, where a parser is installed (.ci/setup platforms)

usage: test_android.py SOURCE_DIR PROGRAMS_DIR MODEL.gguf      needs cmake and a JDK with jni.h, skips without
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

SOURCE, PROGRAMS, MODEL = map(os.path.abspath, sys.argv[1:4])
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api_levels  # noqa: E402
from syntax import errors_in  # noqa: E402
from test_jni import java_home, run_demo  # noqa: E402

PROJECT = f"{SOURCE}/bindings/android"
# What MemoryBudget needs of Android: signatures and constants as its reference has them, bodies ours.
ANDROID = {
    "android/app/ActivityManager": """package android.app;
public class ActivityManager {
    public static long availMem, totalMem, threshold;
    public static class MemoryInfo { public long availMem, totalMem, threshold; public boolean lowMemory; }
    public void getMemoryInfo(MemoryInfo into) {
        into.availMem = availMem; into.totalMem = totalMem; into.threshold = threshold;
    }
}""",
    "android/content/ComponentCallbacks": """package android.content;
public interface ComponentCallbacks {
    void onConfigurationChanged(android.content.res.Configuration to);
    void onLowMemory();
}""",
    "android/content/ComponentCallbacks2": """package android.content;
public interface ComponentCallbacks2 extends ComponentCallbacks {
    int TRIM_MEMORY_RUNNING_MODERATE = 5, TRIM_MEMORY_RUNNING_LOW = 10, TRIM_MEMORY_RUNNING_CRITICAL = 15,
        TRIM_MEMORY_UI_HIDDEN = 20, TRIM_MEMORY_BACKGROUND = 40, TRIM_MEMORY_MODERATE = 60, TRIM_MEMORY_COMPLETE = 80;
    void onTrimMemory(int level);
}""",
    "android/content/Context": """package android.content;
public class Context {
    public ComponentCallbacks registered;
    public Context getApplicationContext() { return this; }
    public void registerComponentCallbacks(ComponentCallbacks callbacks) { registered = callbacks; }
    public void unregisterComponentCallbacks(ComponentCallbacks callbacks) { registered = null; }
    public <T> T getSystemService(Class<T> type) { return type.cast(new android.app.ActivityManager()); }
}""",
    "android/content/res/Configuration": "package android.content.res;\npublic class Configuration {}",
}
FOLLOW = """
import android.app.ActivityManager;
import android.content.ComponentCallbacks2;
import android.content.Context;
import libflashinfer.*;

public class Follow {
    static void expect(boolean right, String what) {
        if (!right) throw new AssertionError(what);
    }

    static ActivityManager.MemoryInfo memory(long free) {
        ActivityManager.threshold = 100_000_000;
        ActivityManager.availMem = ActivityManager.threshold + free;
        ActivityManager.totalMem = 400_000_000;
        return MemoryBudget.memory(new Context());
    }

    /* Changes come from a thread of the follower's. */
    static void becomes(Model model, long least, long most, String what) throws Exception {
        for (int i = 0; i < 500; i++) {
            long bytes = model.plan().plannedBytes;
            if (bytes >= least && bytes <= most) return;
            Thread.sleep(10);
        }
        throw new AssertionError(what + ": " + model.plan().plannedBytes + ", not " + least + " to " + most);
    }

    public static void main(String[] arguments) throws Exception {
        expect(MemoryBudget.choose(memory(60), 50, 1000) == 50, "the least");
        expect(MemoryBudget.choose(memory(49), 50, 1000) == -1, "too little is no budget");
        expect(MemoryBudget.choose(memory(-7), 0, 1000) == -1, "nothing is free");
        expect(MemoryBudget.choose(memory(800), 50, 1000) == 400, "half");
        expect(MemoryBudget.choose(memory(8000), 50, 1000) == 1000, "no more than is of use");
        expect(MemoryBudget.choose(memory(300_000_000), 50, 900_000_000) == 100_000_000, "a quarter of the phone");

        Model.Plan plan = Model.plan(arguments[0], 128);
        long low = plan.minimumBytes, high = plan.maximumBytes, page = 65536;
        Model model = Model.open(arguments[0], 128, high);
        Context context = new Context();
        MemoryBudget follower = new MemoryBudget(context, model);
        ComponentCallbacks2 system = (ComponentCallbacks2) context.registered;
        becomes(model, low + page, high, "as opened");
        long before = model.plan().plannedBytes;
        system.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_RUNNING_MODERATE);
        system.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_RUNNING_LOW);
        becomes(model, low, Math.max(low, before / 4 * 3), "running low");
        system.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN);
        becomes(model, 1, low, "out of sight");
        memory(300_000_000);
        follower.shown();
        becomes(model, low + page, high, "shown again");
        system.onLowMemory();
        becomes(model, 1, low, "memory is about to end");
        memory(0);
        follower.shown();
        Thread.sleep(200);
        becomes(model, 1, low, "shown again, but nothing is free");
        follower.close();
        expect(context.registered == null, "still registered");
        model.close();
        follower.shown(); /* too late, and no harm */
    }
}
"""


def text_of(path):
    with open(path, encoding="utf8") as file:
        return file.read()


class Android(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = folder.name
        environment = dict(os.environ, JAVA_HOME=java_home())
        for key in ("CFLAGS", "LDFLAGS", "LD_LIBRARY_PATH"):
            environment.pop(key, None)
        cls.build = f"{cls.folder}/build"
        for command in (["cmake", "-S", PROJECT, "-B", cls.build, "-DCMAKE_BUILD_TYPE=Release"],
                        ["cmake", "--build", cls.build]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise AssertionError(done.stdout[-4000:] + done.stderr[-4000:])
        cls.library = f"{cls.build}/libflashinfer_jni.so"
        shutil.copy(cls.library, cls.folder)

    def test_build(self):
        rules = text_of(f"{self.build}/libflashinfer/build/build.ninja")
        self.assertIn("file_android.c", rules)
        for name in ("uring.c", "libaio.c", "safetensors.c"):
            self.assertNotIn(name, rules)
        symbols = subprocess.run(["nm", "-D", "--defined-only", self.library], check=True, capture_output=True, text=True).stdout
        exported = set(re.findall(r" T (\S+)", symbols))
        self.assertTrue(exported)
        self.assertEqual({name for name in exported if not name.startswith("Java_libflashinfer_")}, set())
        natives = {f"Java_libflashinfer_{name}_{method}" for name in ("Model", "Session") for method in
                   re.findall(r"native \w+ (\w+)\(", text_of(f"{PROJECT}/java/libflashinfer/{name}.java"))}
        self.assertEqual(natives, exported)
        headers = subprocess.run(["readelf", "-lW", self.library], check=True, capture_output=True, text=True).stdout
        self.assertEqual({line.split()[-1] for line in headers.splitlines() if line.split()[:1] == ["LOAD"]}, {"0x4000"})
        self.assertIsNone(run_demo(SOURCE, self.folder, MODEL, PROGRAMS))

    def test_level(self):
        level, names = api_levels.needed(self.library)
        print(f"API level {level}, for {', '.join(names)}")
        self.assertEqual(set(re.findall(r"android(\d+)-clang\b", text_of(f"{PROJECT}/arm64.ini"))), {str(level)})
        self.assertEqual(re.findall(r"minSdk = (\d+)", text_of(f"{PROJECT}/build.gradle.kts")), [str(level)])
        document = " ".join(text_of(f"{SOURCE}/docs/embedding.md").split())
        self.assertIn(f"(API level {level})", document)
        for name in names:
            self.assertIn(f"`{name}()`", document)

    def test_level_can_fail(self):
        source = f"{self.folder}/new.c"
        for function, told in (("aligned_alloc(64, 64)", "28"), ("random_r(0, 0)", "random_r")):
            with open(source, "w", encoding="utf8") as file:
                file.write("#define _GNU_SOURCE\n#include <stdlib.h>\n#include <stdio.h>\n#include <string.h>\n"
                           f"#include <sys/uio.h>\nint more(void) {{ return (long){function} != 0; }}\n")
            archive = f"{self.folder}/more.a"
            shutil.copy(f"{self.build}/libflashinfer/build/libflashinfer.a", archive)
            subprocess.run(["cc", "-c", "-O0", source, "-o", f"{self.folder}/new.o"], check=True)
            subprocess.run(["ar", "r", archive, f"{self.folder}/new.o"], check=True, capture_output=True)
            try:
                said = str(api_levels.needed(archive)[0])
            except api_levels.Problem as problem:
                said = str(problem)
            self.assertIn(told, said)

    def test_budget(self):
        home = java_home()
        for name, text in {**ANDROID, "Follow": FOLLOW}.items():
            os.makedirs(os.path.dirname(f"{self.folder}/source/{name}"), exist_ok=True)
            with open(f"{self.folder}/source/{name}.java", "w", encoding="utf8") as file:
                file.write(text)
        sources = glob.glob(f"{PROJECT}/java/libflashinfer/*.java") + glob.glob(f"{self.folder}/source/**/*.java", recursive=True)
        done = subprocess.run([f"{home}/bin/javac", "--release", "11", "-Xlint:all,-options", "-Werror", "-d",
                               f"{self.folder}/classes", *sources], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = subprocess.run([f"{home}/bin/java", "-Xcheck:jni", f"-Djava.library.path={self.folder}", "-cp",
                               f"{self.folder}/classes", "Follow", MODEL], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn("WARNING", done.stdout)

    def test_gradle(self):
        build = text_of(f"{PROJECT}/build.gradle.kts")
        for name in ("settings.gradle.kts", "build.gradle.kts"):
            self.assertEqual(errors_in("kotlin", text_of(f"{PROJECT}/{name}")), [])
        paths = re.findall(r'(?:file|srcFile|srcDirs|consumerProguardFiles)\("([^"]+)"\)', build)
        self.assertEqual(sorted(paths), ["AndroidManifest.xml", "CMakeLists.txt", "java", "keep.pro"])
        for path in paths:
            self.assertTrue(os.path.exists(f"{PROJECT}/{path}"), path)
        self.assertIn(re.search(r'targets \+= "(\w+)"', build)[1], text_of(f"{PROJECT}/CMakeLists.txt"))
        manifest = xml.dom.minidom.parse(f"{PROJECT}/AndroidManifest.xml").documentElement
        self.assertEqual(manifest.tagName, "manifest")
        self.assertGreaterEqual(len(re.search(r'namespace = "([\w.]+)"', build)[1].split(".")), 2)
        # what the native side calls by name is kept, and is there
        kept = text_of(f"{PROJECT}/keep.pro")
        for name in re.findall(r"libflashinfer\.([\w$]+) \{ [\w<]", kept):
            self.assertTrue(os.path.exists(f"{PROJECT}/java/libflashinfer/{name.split('$')[0]}.java"), name)


if __name__ == "__main__":
    if java_home() is None or not shutil.which("cmake"):
        print("no cmake, or no javac with its jni.h")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
