"""Who may do what on which object: the permissions of the interface text, put to the question.

`permissions` reads what a procedure asks for, `rules` and `polkit` give the answers, `guard` stands
before the calls and `view` hides what a client may not see.
"""
