"""Machine code of the queues: which tasks issue, and when (see sim/engine/compiled.py)."""

from __future__ import annotations

from sim.engine.heaps import push
from sim.engine.records import NONE, UNKNOWN, Agenda, Int32, Record, Records, Tasks
from sim.jit import jit_inline


@jit_inline
def line_up(tasks: Tasks, queues: Records, stack: Int32) -> int:
    """Chain the tasks of each queue, and put every queue on the stack; its height."""
    for task in range(len(tasks.queue) - 1, -1, -1):
        queue = int(tasks.queue[task])
        tasks.following[task] = queues[queue].head
        queues[queue].head = task
    for queue in range(len(queues)):
        stack[queue] = queue
        _look_at(queues[queue].head, queue, tasks, queues)
    return len(queues)


@jit_inline
def _look_at(task: int, queue: int, tasks: Tasks, queues: Records) -> None:
    """Make `task` the head of its queue; NONE: the queue is through."""
    queues[queue].head = task
    if task != NONE:
        queues[queue].row = tasks.pptr[task]
        queues[queue].ready = tasks.release[task]


@jit_inline
def issue(tasks: Tasks, queues: Records, agenda: Agenda, board: Record) -> None:
    """Issue every task whose start is known by now, beginning with the queues on the stack.

    A queue waits for one thing at a time, so that it is never twice on the stack.
    """
    while board.height > 0:
        board.height -= 1
        number = int(agenda.stack[board.height])
        queue = queues[number]
        while queue.head != NONE and _can_issue(number, tasks, queues):
            task = queue.head
            start = max(queue.ready, queue.free)
            tasks.start[task] = start
            if queue.outstanding > 0:
                queue.free = start
                queue.flying += 1
                if tasks.probe[task] == NONE:
                    board.heads = push(agenda.heads, board.heads, start + tasks.dur[task], task)
                else:
                    board.lookups = push(agenda.lookups, board.lookups, start, task)
            else:
                queue.free = start + tasks.hold[task]
                queue.finish = max(queue.finish, start + tasks.dur[task])
                tasks.finish[task] = queue.finish
                _wake(task, tasks, queues, agenda.stack, board)
            _look_at(int(tasks.following[task]), number, tasks, queues)


@jit_inline
def _can_issue(number: int, tasks: Tasks, queues: Records) -> bool:
    """Whether the start of the head is known; if not, the queue waits for what is missing."""
    queue = queues[number]
    if 0 < queue.outstanding == queue.flying:
        return False  # the next finish on this queue wakes it
    end = tasks.pptr[queue.head + 1]
    while queue.row < end:
        before = int(tasks.pidx[queue.row])
        if tasks.finish[before] == UNKNOWN:
            queue.waiting = tasks.waiting[before]
            tasks.waiting[before] = number
            return False
        queue.ready = max(queue.ready, tasks.finish[before])
        queue.row += 1
    return True


@jit_inline
def _wake(task: int, tasks: Tasks, queues: Records, stack: Int32, board: Record) -> None:
    """Put the queues that wait for the task on the stack."""
    queue = int(tasks.waiting[task])
    while queue != NONE:
        stack[board.height] = queue
        board.height += 1
        queue = queues[queue].waiting


@jit_inline
def finish(task: int, now: int, tasks: Tasks, queues: Records, stack: Int32, board: Record) -> None:
    """End a transfer, and put the queues that this wakes on the stack."""
    tasks.finish[task] = now
    number = int(tasks.queue[task])
    queue = queues[number]
    if queue.flying == queue.outstanding and queue.head != NONE:
        queue.free = max(queue.free, now)
        stack[board.height] = number
        board.height += 1
    queue.flying -= 1
    _wake(task, tasks, queues, stack, board)
