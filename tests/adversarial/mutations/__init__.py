"""Whether the suite notices: each defence of tollgate is switched off in a copy of it, and a row of the suite must leak.

The source of tollgate has no switches; they are written into the copy. A new mutation is an entry in one of the lists.
"""

from mutations import answers, payments, requests
from mutations.mutation import Mutation

ALL: list[Mutation] = [*payments.ALL, *requests.ALL, *answers.ALL]
