package libflashinfer;

import android.app.ActivityManager;
import android.content.ComponentCallbacks2;
import android.content.Context;
import android.content.res.Configuration;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * A budget that follows what Android says about memory. Choose one before opening:
 *
 * <pre>
 * Model.Plan plan = Model.plan(path, 2048);
 * long budget = MemoryBudget.choose(MemoryBudget.memory(context), plan.minimumBytes, plan.maximumBytes);
 * if (budget &lt; 0) ...             // too little memory now for this model
 * Model model = Model.open(path, 2048, budget);
 * MemoryBudget follower = new MemoryBudget(context, model);
 * </pre>
 *
 * Then call shown() in onStart(), and close() before the model is closed.
 */
public final class MemoryBudget implements ComponentCallbacks2, AutoCloseable {
    private final Context context;
    private final Model model;
    // setBudget() waits for the call that runs, and these callbacks come on the main thread
    private final ExecutorService worker = Executors.newSingleThreadExecutor();

    public MemoryBudget(Context context, Model model) {
        this.context = context.getApplicationContext();
        this.model = model;
        this.context.registerComponentCallbacks(this);
    }

    public static ActivityManager.MemoryInfo memory(Context context) {
        ActivityManager.MemoryInfo memory = new ActivityManager.MemoryInfo();
        context.getSystemService(ActivityManager.class).getMemoryInfo(memory);
        return memory;
    }

    /**
     * Half of what may be taken before Android begins to end processes, a quarter of the phone at most, within what the
     * model can use. -1: not even the smallest budget that works is free.
     */
    public static long choose(ActivityManager.MemoryInfo memory, long minimumBytes, long maximumBytes) {
        long free = memory.availMem - memory.threshold;
        if (free < minimumBytes) return -1;
        long share = Math.min(free / 2, memory.totalMem / 4);
        return Math.max(minimumBytes, Math.min(share, maximumBytes));
    }

    /** Again on the screen: grow to what is free now. */
    public void shown() {
        later(() -> {
            Model.Plan plan = model.plan();
            ActivityManager.MemoryInfo memory = memory(context);
            memory.availMem += plan.plannedBytes; // what it holds itself is free to it
            long budget = choose(memory, plan.minimumBytes, plan.maximumBytes);
            if (budget > plan.plannedBytes) model.setBudget(budget);
        });
    }

    /**
     * Out of sight, or memory is about to end: the least that works. Running low: three quarters. Android 14 and later tell
     * of the first only.
     */
    @Override
    public void onTrimMemory(int level) {
        if (level < TRIM_MEMORY_RUNNING_LOW) return;
        later(() -> {
            Model.Plan plan = model.plan();
            boolean low = level < TRIM_MEMORY_RUNNING_CRITICAL;
            model.setBudget(low ? Math.max(plan.minimumBytes, plan.plannedBytes / 4 * 3) : plan.minimumBytes);
        });
    }

    @Override
    public void onLowMemory() {
        onTrimMemory(TRIM_MEMORY_COMPLETE);
    }

    @Override
    public void onConfigurationChanged(Configuration configuration) {}

    /* A budget that is refused leaves the old one in force; a model that was closed needs none. */
    private void later(Runnable change) {
        if (worker.isShutdown()) return;
        worker.execute(() -> {
            try {
                change.run();
            } catch (Model.Failure | IllegalStateException nothingToDo) {
                return;
            }
        });
    }

    @Override
    public void close() {
        context.unregisterComponentCallbacks(this);
        worker.shutdownNow();
    }
}
