package libflashinfer;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;

/**
 * A model of libflashinfer for Java and Kotlin: a sketch to start an application's own binding from. Sessions are begun
 * with session(); close() closes them first. Calls on a model and its sessions may come from any thread and wait for each
 * other, so none of them belongs on the main thread, but for Session.stop().
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

    /** Budgets in bytes: the smallest that works, that above which more changes nothing, and what is held now. */
    public static final class Plan {
        public final long minimumBytes;
        public final long maximumBytes;
        public final long plannedBytes;

        Plan(long[] figures) {
            minimumBytes = figures[0];
            maximumBytes = figures[1];
            plannedBytes = figures[2];
        }
    }

    private final List<Session> sessions = new CopyOnWriteArrayList<>();
    private long handle;

    private Model(long handle) {
        this.handle = handle;
    }

    /**
     * What budgets a file can have, without opening it.
     *
     * @param contextTokens positions of a session, 0: all the model has. Their keys and values are a large part of the
     *     minimum, so a phone asks for no more than it needs.
     */
    public static Plan plan(String path, int contextTokens) {
        long[] figures = new long[3];
        planPath(bytes(path), contextTokens, figures);
        return new Plan(figures);
    }

    /** A model file, for one session at a time. budgetBytes 0: everything in memory. */
    public static Model open(String path, int contextTokens, long budgetBytes) {
        return new Model(openPath(bytes(path), contextTokens, checked(budgetBytes)));
    }

    /**
     * A model inside a package: getParcelFileDescriptor().getFd(), getStartOffset() and getLength() of an
     * AssetFileDescriptor, which may be closed afterwards.
     */
    public static Model open(int fd, long offset, long length, int contextTokens, long budgetBytes) {
        return new Model(openFd(fd, offset, length, contextTokens, checked(budgetBytes)));
    }

    /** Begin a sequence that lives until it is closed. Refused while another one does. */
    public synchronized Session session(Sampling sampling) {
        Session session = new Session(this, opened(), sampling);
        sessions.add(session);
        return session;
    }

    public synchronized Plan plan() {
        long[] figures = new long[3];
        plan(opened(), figures);
        return new Plan(figures);
    }

    /**
     * Shrink or grow; see MemoryBudget. Waits for the call that runs. Refused below what works; the old budget stays in
     * force then.
     */
    public synchronized void setBudget(long budgetBytes) {
        setBudget(opened(), checked(budgetBytes));
    }

    /** Stops what runs, closes the sessions, then the model. */
    @Override
    public void close() {
        for (Session session : sessions) session.stop(); // before waiting for this model's monitor, or for a session's
        synchronized (this) {
            for (Session session : sessions) session.close();
            if (handle != 0) close(handle);
            handle = 0;
        }
    }

    void forget(Session session) {
        sessions.remove(session);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private long opened() {
        if (handle == 0) throw new IllegalStateException("the model is closed");
        return handle;
    }

    private static long checked(long budgetBytes) {
        if (budgetBytes < 0) throw new IllegalArgumentException("a budget of " + budgetBytes + " bytes");
        return budgetBytes;
    }

    private static native void planPath(byte[] path, int contextTokens, long[] figures);

    private static native long openPath(byte[] path, int contextTokens, long budgetBytes);

    private static native long openFd(int fd, long offset, long length, int contextTokens, long budgetBytes);

    private static native void plan(long handle, long[] figures);

    private static native void setBudget(long handle, long budgetBytes);

    private static native void close(long handle);
}
