package libflashinfer;

import java.nio.charset.StandardCharsets;

/**
 * A model of libflashinfer for Java and Kotlin: a sketch to start an application's own binding from. One call at a time
 * runs on a model; setBudget() from another thread waits for it.
 */
public final class Model implements AutoCloseable {
    static {
        System.loadLibrary("flashinfer_jni");
    }

    /** What the library refused or failed at: its code, and its text with what to do. */
    public static final class Failure extends RuntimeException {
        private static final long serialVersionUID = 1;
        public final int code;

        Failure(int code, String text) {
            super(text);
            this.code = code;
        }
    }

    /** Takes text as it is completed; false stops. */
    public interface Listener {
        boolean piece(String text);
    }

    private long handle;

    private Model(long handle) {
        this.handle = handle;
    }

    /** A model file. budgetBytes 0: everything in memory. */
    public static Model open(String path, long budgetBytes) {
        return new Model(openPath(path.getBytes(StandardCharsets.UTF_8), budgetBytes));
    }

    /**
     * A model inside a package: getParcelFileDescriptor().getFd(), getStartOffset() and getLength() of an
     * AssetFileDescriptor, which may be closed afterwards.
     */
    public static Model open(int fd, long offset, long length, long budgetBytes) {
        return new Model(openFd(fd, offset, length, budgetBytes));
    }

    /** Continue a prompt greedily by at most so many tokens. An exception of the listener stops, and is thrown on. */
    public synchronized void generate(String prompt, int tokens, Listener listener) {
        generate(opened(), prompt.getBytes(StandardCharsets.UTF_8), tokens, listener);
    }

    /** For onTrimMemory(). Refused below what works; the old budget stays in force then. Not while close() runs. */
    public void setBudget(long budgetBytes) {
        setBudget(opened(), budgetBytes);
    }

    @Override
    public synchronized void close() {
        if (handle != 0) close(handle);
        handle = 0;
    }

    private long opened() {
        if (handle == 0) throw new IllegalStateException("the model is closed");
        return handle;
    }

    /* Called by the native side with whole UTF-8 characters. */
    private static boolean deliver(Listener listener, byte[] text) {
        return listener.piece(new String(text, StandardCharsets.UTF_8));
    }

    private static native long openPath(byte[] path, long budgetBytes);

    private static native long openFd(int fd, long offset, long length, long budgetBytes);

    private static native void generate(long handle, byte[] prompt, int tokens, Listener listener);

    private static native void setBudget(long handle, long budgetBytes);

    private static native void close(long handle);
}
